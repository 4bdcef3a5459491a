"""Readers of the benchmarks' files, as they are published; each takes the data root and yields records."""
