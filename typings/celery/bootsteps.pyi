# celery 5.7

RUN: int
