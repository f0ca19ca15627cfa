"""Probes by HTTP: a worker and Beat say whether they live, and whether they are ready."""
