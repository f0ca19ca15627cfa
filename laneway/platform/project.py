"""The Celery app of the current project: `celery -A laneway.platform.project worker|beat|flower`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from celery import Celery

from laneway.platform.application import application
from laneway.platform.errors import ConfigError
from laneway.platform.settings import project

FLOWER_CONFIG = "flowerconfig.py"


def _load_app() -> Celery:
    try:
        return application().bare_celery_app
    except ConfigError as error:
        sys.exit(str(error))  # the user gets one readable text instead of a traceback


if not (project.path / FLOWER_CONFIG).exists():  # Flower reads the project's own file by itself
    os.environ.setdefault("FLOWER_CONF", str(Path(__file__).parents[1] / "server" / FLOWER_CONFIG))
celery_app = _load_app()
