"""Additions to a Celery worker on the engine: a faster pool, checks before a task starts, and a watchdog."""
