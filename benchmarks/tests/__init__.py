"""Tests of the benchmarks: a wrong figure has to be noticed. `make bench` runs them first."""
