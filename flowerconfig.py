"""Flower's configuration, found by `celery ... flower` in whatever folder it is started from: never open to all."""

import sys

import laneway.flower
from app.core.config import settings
from app.core.errors import PlatformError
from app.dev.flower_login import login

laneway.flower.install()
config = settings()
address = config.api.flower_host
port = config.api.flower_port
try:
    basic_auth = [login(config)]
except PlatformError as error:
    sys.exit(str(error))
