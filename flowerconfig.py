"""Flower's configuration, found by `celery ... flower` in the folder that it is started from: never open to all."""

import sys

from app.core.config import settings
from app.core.errors import PlatformError
from app.dev.flower_login import login

config = settings()
address = config.api.flower_host
port = config.api.flower_port
try:
    basic_auth = [login(config)]
except PlatformError as error:
    sys.exit(str(error))
