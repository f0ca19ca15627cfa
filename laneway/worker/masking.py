"""Keeps passwords out of what workers tell about themselves: `inspect stats`, `inspect conf`, `celery report`, Flower.

Celery masks the settings that it knows. The connection of a transport that reads addresses itself has its whole address
as its host name, and RedBeat has an address in a setting of its own.
"""

from __future__ import annotations

import re
from typing import Any, Final, cast

from celery.app import utils
from celery.worker import control

from laneway._masking import masked

_ALSO_HIDDEN: Final = "REDIS_URL"


def mask_settings() -> None:
    """Make Celery hide the settings that are addresses of Redis. A second call does nothing."""
    known = utils.HIDDEN_SETTINGS
    if _ALSO_HIDDEN not in known.pattern:
        utils.HIDDEN_SETTINGS = re.compile(f"{known.pattern}|{_ALSO_HIDDEN}", known.flags)


def mask_stats() -> None:
    """Make this worker answer `inspect stats` without logins in addresses. A second call does nothing."""
    celery_stats = control.Panel.data["stats"]
    if getattr(celery_stats, "masks_logins", False):
        return

    def stats(state: Any, **kwargs: Any) -> Any:
        """Request worker statistics/information."""
        return masked_values(celery_stats(state, **kwargs))

    stats.masks_logins = True  # pyright: ignore[reportFunctionMemberAccess]
    control.inspect_command()(stats)


def masked_values(value: Any) -> Any:
    """The value without the secrets of the addresses in it."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {name: masked_values(item) for name, item in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [masked_values(item) for item in cast("list[Any]", value)]
    return value
