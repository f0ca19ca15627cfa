"""Asks the platform in threads, so that the screen never waits, and so that quitting does not wait for an answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import TypeVar

from laneway._masking import masked
from laneway._printable import one_line
from laneway.cli.failures import explain
from laneway.cli.target import target

T = TypeVar("T")


def ask(question: Callable[[], T], *, then: Callable[[T], object], failed: Callable[[str], object]) -> None:
    """Call `question` in a thread, as the caller of this context; then `then` or `failed` in the thread of the screen.

    `failed` gets the reason as one sentence for people.
    """
    loop, context, screen = asyncio.get_running_loop(), copy_context(), copy_context()

    def run() -> None:
        try:
            answer = context.run(question)
        except Exception as problem:  # noqa: BLE001 - it is shown
            reason = sentence(problem)
            deliver(lambda: failed(reason))
        else:
            deliver(lambda: then(answer))

    def deliver(call: Callable[[], object]) -> None:
        try:
            loop.call_soon_threadsafe(call, context=screen)
        except RuntimeError:  # the screen has closed meanwhile, and its loop with it
            return

    threading.Thread(target=run, name="laneway-top", daemon=True).start()


def sentence(problem: Exception) -> str:
    """An error as one sentence, without the token."""
    told, _ = explain(problem)
    text = one_line(masked(told or f"{type(problem).__name__}: {str(problem).strip() or 'no reason is given'}"))
    return text.replace(target.token, "…") if target.token else text
