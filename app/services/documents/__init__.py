"""Documents: ingested, split into passages, and searched."""
