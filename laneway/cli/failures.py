"""Errors as people read them: one sentence with what to do, and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from typing import Final

import typer

from laneway._masking import masked
from laneway._printable import printable
from laneway.cli.target import UsageError, target

FAILED: Final = 1
"""The platform refused it, it failed, or something could not be shown."""
USAGE: Final = 2
"""The command line or the settings are not valid."""
NO_PLATFORM: Final = 3
"""At the URL there is no platform that answers."""
NOT_ALLOWED: Final = 4
"""The platform does not accept the token."""


def report(error: Exception) -> int:
    """Print an error in one sentence; returns the exit code. Re-raises an unexpected error when LOG_LEVEL is DEBUG."""
    sentence, code = explain(error)
    if sentence is None:
        if os.environ.get("LOG_LEVEL", "").upper() == "DEBUG":
            raise error
        first_line = str(error).strip().partition("\n")[0]
        sentence = f"{type(error).__name__}: {first_line} (set LOG_LEVEL=DEBUG to see the traceback)"
    text = printable(masked(sentence))
    typer.echo(text.replace(target.token, "…") if target.token else text, err=True)
    return code


def refusal(error: Exception) -> str | None:
    """Why the platform did not do one of several things; None for an error that concerns the others as well."""
    if "laneway.client.errors" in sys.modules:
        from laneway.client.errors import Conflict, Gone, InvalidRequest, NotFound

        if isinstance(error, Conflict | Gone | InvalidRequest | NotFound):
            return error.detail or str(error)
    if "laneway.platform.errors" in sys.modules:
        from laneway.platform.errors import PlatformError

        if isinstance(error, PlatformError):
            return str(error)
    return None


def explain(error: Exception) -> tuple[str | None, int]:
    """The sentence for an error, or None for an unexpected one, and the exit code."""
    if isinstance(error, UsageError):
        return str(error), USAGE
    if "laneway.client.errors" in sys.modules and (told := _of_client(error)) is not None:
        return told
    if "laneway.platform.errors" in sys.modules and (told := _of_platform(error)) is not None:
        return told
    if "laneway.transport.key_ring" in sys.modules and _is_of_key_ring(error):
        return str(error), FAILED
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        file = f" {error.filename}" if error.filename else ""
        return f"Writing{file} failed: the disk, or a quota on it, is full. Free space on it.", FAILED
    if isinstance(error, ImportError) and "pip install" in str(error):
        return f"{error}. For a platform elsewhere give its address with --url.", FAILED
    return None, FAILED


def _of_platform(error: Exception) -> tuple[str, int] | None:
    from laneway.platform.errors import ConfigError, PlatformError

    if not isinstance(error, PlatformError):
        return None
    return str(error), USAGE if isinstance(error, ConfigError) else FAILED


def _is_of_key_ring(error: Exception) -> bool:
    from laneway.transport.key_ring import KeyRingError

    return isinstance(error, KeyRingError)


def _of_client(error: Exception) -> tuple[str, int] | None:
    from laneway.client import errors

    if not isinstance(error, errors.ClientError):
        return None
    if target.url is None and isinstance(error, errors.Unreachable | errors.UnexpectedResponse):  # of the own API
        return f"{str(error).rstrip('.')}.", FAILED
    at = target.url or "the URL"
    if isinstance(error, errors.Unreachable):
        return _unreachable(error, at), NO_PLATFORM
    if isinstance(error, errors.UnexpectedResponse):
        return f"At {at} answers something that is no Laneway of this version ({error}).", NO_PLATFORM
    if isinstance(error, errors.Unauthorized):
        have = "does not accept the token" if target.token else "wants a token"
        return f"The platform at {at} {have} (401): give a valid one with LANEWAY_TOKEN or --token.", NOT_ALLOWED
    if isinstance(error, errors.Forbidden):
        return f"The token does not allow this at {at} (403): use one that does. {error.detail}", NOT_ALLOWED
    if isinstance(error, errors.ApiError):
        return error.detail or str(error), FAILED
    return str(error), FAILED


def _unreachable(error: Exception, at: str) -> str:
    import ssl

    if any(isinstance(cause, ssl.SSLError) for cause in _causes(error)):
        last = next(str(cause) for cause in _causes(error) if isinstance(cause, ssl.SSLError))
        return (
            f"The connection to {at} is not secure, and nothing was sent: {last}. Check the address; for a certificate "
            "of your own authority set SSL_CERT_FILE."
        )
    if "did not answer in time" in str(error):
        return f"The platform at {at} did not answer in time. Try again, and look whether it runs."
    return f"No platform answers at {at}. Check --url (or LANEWAY_URL), and whether its API runs. ({_reason(error)})"


def _reason(error: Exception) -> str:
    return str([*_causes(error)][-1]) or type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
