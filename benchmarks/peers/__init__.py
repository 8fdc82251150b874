"""The same API as people would build it with other stacks, each as its own documentation teaches.

They implement what the benchmark asks for, on the schema that our migrations make.
"""
