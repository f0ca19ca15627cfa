"""Structured logs: one line per event with the ids of its context, as JSON in production, as text in a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from laneway._masking import masked, without_secrets
from laneway._printable import printable_in_colour
from laneway.platform.settings import OperationSettings

NOISY = (
    "alembic",
    "amqp",
    "celery.app.trace",
    "celery.redirected",
    "celery.worker.strategy",
    "httpcore",
    "httpx",
    "httpx2",
    "openai",
    "uvicorn.access",
)
"""Loggers of which only warnings and errors are logged. Celery's lines about each task repeat ours, and contain texts
of customers."""


def configure_logging(settings: OperationSettings, *, json: bool | None = None) -> None:
    """Write every log line of this process, also of libraries, through one formatter to standard error."""
    as_json = json if json is not None else wants_json(settings)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        redact,
        copy_to_sink,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_renderers(as_json)))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    logging.captureWarnings(True)  # such as that of a broker that may evict messages
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "celery", "celery.task", "celery.worker"):
        library = logging.getLogger(name)
        library.handlers, library.propagate = [], True


def log_by_the_program() -> None:
    """Leave it to the program what it shows, unless it has set structlog up: lines go to loggers of `logging`.

    Without any configuration Python then shows warnings and errors, on standard error. Structlog's own default would
    print each line to standard output, in the middle of what a script prints.
    """
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            redact,
            copy_to_sink,
            structlog.processors.KeyValueRenderer(key_order=["event"], drop_missing=True),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def wants_json(settings: OperationSettings) -> bool:
    """True when lines are JSON: as LOG_FORMAT says, by default in production."""
    if settings.log_format == "auto":
        return settings.environment == "production"
    return settings.log_format == "json"


def quiet(settings: OperationSettings) -> OperationSettings:
    """Return the settings for a command whose output a person reads: only errors are logged.

    What a command has to say, it says in sentences.
    """
    return settings if settings.log_level == "DEBUG" else settings.model_copy(update={"log_level": "ERROR"})


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Hide the values of secrets, recognized by their names, and the logins in addresses."""
    event.pop("color_message", None)  # uvicorn's second copy of its message
    return without_secrets(event)


def _redact_traceback(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Redact a second time, if only now there is the text of a traceback."""
    return redact(logger, method, event) if "exception" in event else event


LineSink: TypeAlias = Callable[[dict[str, Any]], None]
_sink: ContextVar[LineSink | None] = ContextVar("sink", default=None)


@contextmanager
def capture(sink: LineSink, *, lines: int) -> Generator[None]:
    """Pass the first `lines` log lines of this context, from INFO on, to `sink` as well, redacted."""
    left = lines

    def pass_on(line: dict[str, Any]) -> None:
        nonlocal left
        if left > 0:
            left -= 1
            sink(line)

    token = _sink.set(pass_on)
    try:
        yield
    finally:
        _sink.reset(token)


def copy_to_sink(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Pass a line to the sink of `capture`, if there is one."""
    sink = _sink.get()
    if sink is not None and method != "debug":
        _sink.set(None)  # lines that the sink itself logs are not passed to it
        try:
            sink(
                {
                    "level": method,
                    "text": str(event.get("event"))[:2000],
                    "data": {name: str(value)[:500] for name, value in event.items() if name not in _NOT_CAPTURED},
                }
            )
        finally:
            _sink.set(sink)
    return event


_NOT_CAPTURED = {"event", "level", "logger", "timestamp", "task_id", "_record", "_from_structlog", "exc_info"}


def bind(**ids: str | None) -> None:
    """Add ids (task_id, conversation_id, request_id) to the later lines of this context; None removes one."""
    structlog.contextvars.bind_contextvars(**{name: value for name, value in ids.items() if value is not None})
    structlog.contextvars.unbind_contextvars(*(name for name, value in ids.items() if value is None))


def unbind_all() -> None:
    """Remove every bound id."""
    structlog.contextvars.clear_contextvars()


def logger(name: str) -> Any:
    """A structured logger: `log.info("event", key=value)`."""
    return structlog.stdlib.get_logger(name)


def _renderers(as_json: bool) -> list[Processor]:
    if as_json:
        return [
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _redact_traceback,
            structlog.processors.JSONRenderer(),
        ]
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        # Without values of variables: they may be secrets.
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), pad_event_to=32, exception_formatter=structlog.dev.plain_traceback
        ),
        lambda _logger, _method, line: printable_in_colour(masked(str(line))),
    ]
