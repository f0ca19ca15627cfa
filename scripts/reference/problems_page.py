"""The page of errors: the problem types that the API answers with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import app.main  # noqa: F401  imports every module that declares an error
from laneway.api.errors import problem_kind
from laneway.platform.errors import PlatformError
from scripts.reference.markdown import code, table

INTRODUCTION: Final = """# Errors

Every error of the API is a problem as RFC 9457 defines it, with the media type `application/problem+json`: `type`,
`title`, `status`, `detail`, `instance`, `request_id`, and for an invalid request `errors`, one entry per field. `type`
is `urn:laneway:problem:` and the kind below; an error that HTTP itself explains has `about:blank`. `Retry-After` says
how many seconds to wait.

A task that raises one of these errors is retried if the last column says so; otherwise it fails at once.
"""
ALWAYS: Final = (
    ("`invalid-request`", "422", "The body, a parameter or a header is not valid; `errors` names each field.", "no"),
    ("`body-too-large`", "413", "The body is larger than `MAX_BODY_BYTES`.", "no"),
)
HEAD: Final = ("kind", "status", "meaning", "retried")


def problems_page() -> str:
    """The Markdown of the page."""
    errors = sorted(set(_leaves(PlatformError)), key=lambda error: error.__name__)
    library = [_row(error) for error in errors if error.__module__.startswith("laneway.")]
    application = [_row(error) for error in errors if error.__module__.startswith("app.")]
    return (
        f"{INTRODUCTION}\n## The platform\n\n{table(HEAD, sorted([*library, *ALWAYS]))}"
        f"\n## The application\n\n{table(HEAD, application)}"
    )


def _leaves(error: type[PlatformError]) -> Iterator[type[PlatformError]]:
    """The error, if it is raised itself, and all that derive from it. A class without fields is only a base."""
    if error._fields:
        yield error
    for derived in error.__subclasses__():
        yield from _leaves(derived)


def _row(error: type[PlatformError]) -> tuple[str, str, str, str]:
    meaning = (error.__doc__ or "").strip().partition("\n\n")[0]
    return code(problem_kind(error.__name__)), str(error.status), meaning, "yes" if error.retryable else "no"
