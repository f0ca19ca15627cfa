"""What a Celery worker gains on the engine: a faster pool, checks before a task starts, and a watchdog."""
