"""How fast this project is beside what people would pick instead: `python -m benchmarks`, or `make bench`."""
