"""The kill harness: kills real workers, producers and a real server under load, and counts every task in a ledger.

`python -m benchmarks.chaos` runs it; docs/chaos.md says how to read its report.
"""
