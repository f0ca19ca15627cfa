# celery 5.7

from celery.utils.dispatch.signal import Signal as Signal
