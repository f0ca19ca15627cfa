"""The settings, the queues and the Celery app, which every layer above may use."""
