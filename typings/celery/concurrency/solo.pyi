# celery 5.7

from celery import Celery
from celery.concurrency.base import BasePool

class TaskPool(BasePool):
    def __init__(self, *, app: Celery) -> None: ...
