"""Translates the errors of Celery, kombu, redis-py and the engine into errors of the platform."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from kombu.exceptions import KombuError
from redis.exceptions import AuthenticationError, OutOfMemoryError, ReadOnlyError, RedisError

from laneway._masking import masked
from laneway.engine import PutCode, PutResult
from laneway.engine import errors as engine_errors
from laneway.engine.connection import refusal_in
from laneway.platform import errors

_REFUSALS = (engine_errors.ServerRefuses, engine_errors.ServerFull, ReadOnlyError, OutOfMemoryError)
_ADVICE: Final = {
    "MISCONF": "it cannot write its data. Free space on its disk; it takes writes again by itself",
    "OOM ": "its memory is full. Raise its `maxmemory`, or let workers work the queues off",
    "READONLY": "it is a read-only replica. Name its master in REDIS_URL",
    "LOADING": "it loads its data. Wait until it has",
    "NOPERM": "the user in REDIS_URL may not do this. Allow it in the server's ACL",
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
    """Return the error that says why the broker cannot be used now, without logins in addresses."""
    reason = error.reason if isinstance(error, engine_errors.ServerLost | engine_errors.ServerFull) else str(error)
    text = masked(reason) or type(error).__name__
    if isinstance(error, engine_errors.LoginRefused | AuthenticationError):
        return errors.BrokerLoginRefused(text)
    advice = next((advice for code, advice in _ADVICE.items() if code in text), None)
    if advice is not None:
        return errors.BrokerRefuses(f"{text.rstrip('.')}: {advice}")
    refused = isinstance(error, _REFUSALS) or refusal_in(text)
    return errors.BrokerRefuses(text) if refused else errors.BrokerUnavailable(text)


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
