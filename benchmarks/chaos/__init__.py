"""The kill harness: real workers, producers and a real server under load, killed at random, and a ledger that counts.

`python -m benchmarks.chaos` runs it; docs/chaos.md says how to read what it prints.
"""
