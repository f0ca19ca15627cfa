"""What a Celery worker gains on the engine."""
