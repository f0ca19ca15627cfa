# celery 5.7
