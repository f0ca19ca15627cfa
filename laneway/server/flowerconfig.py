"""Flower's configuration for a project that has no flowerconfig.py: Flower asks for the login of the platform.

Flower executes this file; nobody imports it.
"""

from __future__ import annotations

import sys

import laneway.worker.flower
from laneway.platform.application import application
from laneway.platform.errors import PlatformError
from laneway.server.flower_guard import protect

try:
    config = application().load_settings()
    read_only = protect(config)
except PlatformError as error:
    sys.exit(str(error))
laneway.worker.flower.install()
address = config.api.flower_host
port = config.api.flower_port
logging = "warning"  # its INFO lines are about plugins of other libraries
