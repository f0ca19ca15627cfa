# celery 5.7

from celery.concurrency.asynpool import AsynPool
from celery.concurrency.base import BasePool

class TaskPool(BasePool):
    Pool: type[AsynPool]
