"""Translates the errors of Celery, kombu, redis-py and the engine into errors of the platform."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from laneway.engine import PutCode, PutResult
from laneway.engine import errors as engine_errors
from laneway.platform import errors
from laneway.platform.logging import URL_LOGIN

_REFUSALS: Final = {
    "MISCONF": "it cannot write its data. Free space on its disk; it takes writes again by itself",
    "OOM ": "its memory is full. Raise its `maxmemory`, or let workers work the queues off",
    "READONLY": "it is a read-only replica. Name its master in REDIS_URL",
    "LOADING": "it loads its data. Wait until it has",
    "NOAUTH": "it needs a password. Put it into REDIS_URL",
    "WRONGPASS": "the login is wrong. Correct it in REDIS_URL",
    "NOPERM": "the user in REDIS_URL may not do this. Allow it in the server's ACL",
    "invalid username-password": "the login is wrong. Correct it in REDIS_URL",
}
"""What stands in the text of a refusal → what it means, and what to do."""


@contextmanager
def translated_errors() -> Generator[None]:
    """Raise the platform's error for each error of the broker in this block."""
    try:
        yield
    except engine_errors.QueueFull as error:
        raise errors.QueueFull(error.queue, error.size) from error
    except engine_errors.DuplicateTask as error:
        raise errors.DuplicateTask(error.existing) from error
    except engine_errors.JournalFull as error:
        raise errors.HistoryBehind(error.queue, error.unread) from error
    except engine_errors.NewerQueue as error:
        raise errors.NewerQueue(error.queue, error.format) from error
    except engine_errors.TooLate as error:
        raise errors.TooLate(_late_by(1000 * error.late)) from error
    except engine_errors.NotDurable as error:
        raise errors.NotDurable(error.durability) from error
    except engine_errors.DurabilityUnavailable as error:
        raise errors.Unsupported(f"durability {error.durability!r}", error.reason) from error
    except (KombuError, RedisError, engine_errors.EngineError, OSError) as error:
        raise unavailable(error) from error


def unavailable(error: Exception) -> errors.BrokerUnavailable:
    """The platform's error for a broker that cannot be used: it cannot be reached, or it says why it refuses."""
    text = URL_LOGIN.sub("", str(error)) or type(error).__name__
    advice = next((advice for code, advice in _REFUSALS.items() if code in text), None)
    return errors.BrokerUnavailable(text) if advice is None else errors.BrokerRefuses(f"{advice} ({text})")


def refusal_of(result: PutResult) -> errors.PlatformError | None:
    """Return the error that says why a message was not queued.

    Returns None when it was queued, and when its task was cancelled in the meantime: then it is not needed.
    """
    if result.code is PutCode.FULL:
        return errors.QueueFull(result.queue, result.size)
    if result.code is PutCode.JOURNAL_FULL:
        return errors.HistoryBehind(result.queue, result.size)
    if result.code is PutCode.DUPLICATE:
        return errors.DuplicateTask(result.existing)
    if result.code is PutCode.TOO_LATE:
        return errors.TooLate(_late_by(result.late_ms))
    return None


def _late_by(milliseconds: float) -> str:
    return f"it came {milliseconds:.0f} ms after the claim on its task had expired"
