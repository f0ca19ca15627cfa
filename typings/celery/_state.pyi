# celery 5.7

from celery.app.base import Celery
from celery.local import Proxy

current_app: Proxy[Celery]

def get_current_app() -> Celery: ...
