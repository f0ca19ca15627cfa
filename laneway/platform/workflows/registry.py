"""The step handlers and input types that definitions may name. Modules register them when they are imported."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pydantic import BaseModel

from laneway.platform.errors import ConfigError
from laneway.platform.workflows.handlers import Handler

registered_handlers: Final[dict[str, Handler]] = {}
"""Name → handler."""
registered_inputs: Final[dict[str, type[BaseModel]]] = {}
"""Name → input type."""


def register_handlers(handlers: Iterable[Handler]) -> None:
    """Register handlers. Raises ConfigError for two different handlers of one name."""
    for handler in handlers:
        if registered_handlers.get(handler.name, handler) != handler:
            raise ConfigError(f"There are two workflow handlers named {handler.name!r}.")
        registered_handlers[handler.name] = handler


def register_input(name: str, model: type[BaseModel]) -> None:
    """Register an input type. Raises ConfigError for two different types of one name."""
    if registered_inputs.get(name, model) is not model:
        raise ConfigError(f"There are two workflow inputs named {name!r}.")
    registered_inputs[name] = model
