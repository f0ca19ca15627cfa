"""Takes over the queues of a Celery project: reads its settings, counts its messages, moves them into the engine."""
