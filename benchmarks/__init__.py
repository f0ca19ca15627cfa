"""Measurements of the engine and the platform: `make bench`, `bench-history`, `bench-pipeline`, `chaos` and `load`."""
