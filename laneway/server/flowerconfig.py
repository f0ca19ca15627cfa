"""Flower's configuration for a project that has no flowerconfig.py: Flower always asks for a login.

Flower executes this file; nobody imports it.
"""

from __future__ import annotations

import sys

import laneway.worker.flower
from laneway.platform.application import application
from laneway.platform.errors import PlatformError
from laneway.server.flower_login import login

try:
    config = application().load_settings()
    basic_auth = [login(config)]
except PlatformError as error:
    sys.exit(str(error))
laneway.worker.flower.install()
address = config.api.flower_host
port = config.api.flower_port
logging = "warning"  # its INFO lines are about plugins of other libraries
