"""Measurements of the platform, run by hand or by `make bench`."""
