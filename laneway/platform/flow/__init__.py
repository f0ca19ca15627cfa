"""Rates, numbers in flight and pauses of queues."""
