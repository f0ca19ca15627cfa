# celery 5.7

from celery.worker.consumer.consumer import Consumer as Consumer
