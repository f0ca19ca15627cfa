"""Configuration of `celery flower`, which reads this file from the current folder. Flower asks for our login."""

import sys

import laneway.worker.flower
from app.core.settings import settings
from laneway.platform.errors import PlatformError
from laneway.server.flower_guard import protect

laneway.worker.flower.install()
config = settings()
address = config.api.flower_host
port = config.api.flower_port
logging = "warning"  # its INFO lines are about plugins of other libraries
try:
    read_only = protect(config)
except PlatformError as error:
    sys.exit(str(error))
