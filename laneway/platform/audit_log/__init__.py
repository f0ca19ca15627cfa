"""The audit log: who did what to which object, in entries that only grow and are chained by hash."""
