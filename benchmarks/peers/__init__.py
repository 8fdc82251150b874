"""The same API on other stacks, each as its own documentation teaches, on the schema of this project's migrations."""
