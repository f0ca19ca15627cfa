"""Log lines of a task under test reach its record, whether or not the program has configured its logs."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import structlog

from laneway.platform.logging import copy_to_sink, redact


@contextmanager
def structured_logs() -> Generator[None]:
    """While the block runs, lines of structlog and of `logging` are copied to the sink of `logging.capture`."""
    processors: list[Any] = structlog.get_config()["processors"]
    if copy_to_sink in processors:  # of `configure_logging`, which copies the lines of `logging` as well
        yield
        return
    before, root = [*processors], logging.getLogger()
    handler, level = _Copying(logging.INFO), root.level
    # in place: loggers that were used before hold this list
    processors[:] = [structlog.contextvars.merge_contextvars, redact, copy_to_sink, *before]
    root.addHandler(handler)
    root.setLevel(min(level, logging.INFO))
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        processors[:] = before


class _Copying(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        copy_to_sink(None, record.levelname.lower(), redact(None, "", {"event": record.getMessage()}))
