"""Structured logs: one line an event, with the ids it belongs to; JSON in production, readable in a terminal."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from laneway.platform.settings import OperationSettings

SECRET_NAMES = re.compile(
    r"secret|password|token$|api[-_]?key|google_key|authorization|signature|^(kw)?args$", re.IGNORECASE
)
"""And what tasks are called with, which Celery adds to its lines about failures: what customers wrote, addresses with
tokens."""
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
    "redbeat",
    "uvicorn.access",
)
"""Loggers of which only warnings are wanted; Celery's lines about each task repeat ours, with what customers wrote."""
URL_LOGIN = re.compile(r"(?<=://)[^/\s@]*@")


def configure_logging(settings: OperationSettings, *, json: bool | None = None) -> None:
    """Send every log line of this process, ours and the libraries', through one formatter to standard error."""
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
        _hand_on,
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
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "celery", "celery.task", "celery.worker"):
        library = logging.getLogger(name)
        library.handlers, library.propagate = [], True


def wants_json(settings: OperationSettings) -> bool:
    """Whether lines are JSON: as `LOG_FORMAT` says, or in production."""
    if settings.log_format == "auto":
        return settings.environment == "production"
    return settings.log_format == "json"


def quiet(settings: OperationSettings) -> OperationSettings:
    """The same, for a command that talks to a person: only warnings are logged."""
    return settings.model_copy(update={"log_level": "WARNING"})


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Blank whatever is named like a secret, and logins inside addresses."""
    event.pop("color_message", None)  # uvicorn's second copy of its message
    return _redacted(event)


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return URL_LOGIN.sub("", value)
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value).items()
        return {name: "[redacted]" if SECRET_NAMES.search(str(name)) else _redacted(item) for name, item in items}
    if isinstance(value, list):
        return [_redacted(item) for item in cast("list[Any]", value)]
    return value


_capturing: ContextVar[Callable[[dict[str, Any]], None] | None] = ContextVar("capturing", default=None)


@contextmanager
def capture(tell: Callable[[dict[str, Any]], None], *, lines: int) -> Generator[None]:
    """Hand the first `lines` log lines of this context, from INFO on, to `tell` as well, redacted."""
    left = lines

    def once(line: dict[str, Any]) -> None:
        nonlocal left
        if left > 0:
            left -= 1
            tell(line)

    token = _capturing.set(once)
    try:
        yield
    finally:
        _capturing.reset(token)


def _hand_on(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    tell = _capturing.get()
    if tell is not None and method != "debug":
        _capturing.set(None)  # what the telling logs is not told
        try:
            tell(
                {
                    "level": method,
                    "text": str(event.get("event"))[:2000],
                    "data": {name: str(value)[:500] for name, value in event.items() if name not in _NOT_TOLD},
                }
            )
        finally:
            _capturing.set(tell)
    return event


_NOT_TOLD = {"event", "level", "logger", "timestamp", "task_id", "_record", "_from_structlog", "exc_info"}


def bind(**ids: str | None) -> None:
    """Add ids (task_id, conversation_id, request_id) to every later line of this context; None takes one away."""
    structlog.contextvars.bind_contextvars(**{name: value for name, value in ids.items() if value is not None})
    structlog.contextvars.unbind_contextvars(*(name for name, value in ids.items() if value is None))


def unbind_all() -> None:
    """Forget every bound id."""
    structlog.contextvars.clear_contextvars()


def logger(name: str) -> Any:
    """A structured logger: `log.info("event", key=value)`."""
    return structlog.stdlib.get_logger(name)


def _renderers(as_json: bool) -> list[Processor]:
    if as_json:
        return [
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redact,  # once more: now the traceback is text
            structlog.processors.JSONRenderer(),
        ]
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        # Without values of variables: they may be secrets.
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), pad_event_to=32, exception_formatter=structlog.dev.plain_traceback
        ),
        lambda _logger, _method, line: URL_LOGIN.sub("", str(line)),
    ]
