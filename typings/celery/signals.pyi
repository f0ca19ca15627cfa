# celery 5.7

from celery.utils.dispatch import Signal

before_task_publish: Signal
after_task_publish: Signal
task_sent: Signal
worker_process_init: Signal
worker_process_shutdown: Signal
worker_init: Signal
worker_ready: Signal
worker_shutdown: Signal
worker_shutting_down: Signal
setup_logging: Signal
import_modules: Signal
beat_embedded_init: Signal
beat_init: Signal
