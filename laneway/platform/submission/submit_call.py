"""One of several submissions that are accepted together, each for its own caller."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass

from laneway.platform.submission.transaction import Submission


@dataclass(frozen=True, slots=True)
class SubmitCall:
    """A submission, and in which context it is accepted: its caller, the ids for its log lines, its time limit."""

    submission: Callable[[], Submission]
    """Makes the submission; called in the context, and may raise what refuses it."""
    context: Context
