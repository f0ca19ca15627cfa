"""What every layer above may use: the settings, the queues, the Celery app."""
