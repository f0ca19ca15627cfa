# celery 5.7

from celery.app.base import Celery as Celery
