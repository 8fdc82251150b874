"""How fast this product is, beside what people would pick instead: `python -m benchmarks`, or `make bench`."""
