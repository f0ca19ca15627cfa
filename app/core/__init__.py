"""What every layer above may use: settings, errors, queues, the task catalog, the Celery app."""
