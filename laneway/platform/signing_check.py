"""Checks the key ring before a process sends or runs tasks, so that it does not start with keys that cannot work."""

from __future__ import annotations

from laneway.platform.errors import ConfigError
from laneway.platform.settings import Settings
from laneway.transport.key_ring import KeyRingUnusable, ring_file

NO_KEYS = (
    "Messages are not signed: whoever reaches the broker could have any task run. In production set KEY_RING_FILE to "
    "the file of the keys (`laneway keys create` makes it), or MESSAGE_SIGNING=off to do without."
)
NOT_ON_ENGINE = (
    "MESSAGE_SIGNING={signing} needs the delivery engine, which this broker does not use: set MESSAGE_SIGNING=off, and "
    "sign with the serializer `auth` of your own Celery app."
)


def check_signing(settings: Settings) -> None:
    """Raise ConfigError when the key ring cannot be used, or is missing where it must be."""
    keys = settings.keys
    if keys.ring_path is not None:
        try:
            ring_file(keys.ring_path)
        except KeyRingUnusable as error:
            raise ConfigError(f"KEY_RING_FILE: {error}") from error
    elif settings.operation.environment == "production" and keys.signing is None:
        raise ConfigError(NO_KEYS)
    if keys.signing in ("require", "sign") and not settings.redis.on_engine:
        raise ConfigError(NOT_ON_ENGINE.format(signing=keys.signing))
