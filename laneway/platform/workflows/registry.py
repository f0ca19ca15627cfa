"""Step handlers and types of input that any definition may name, registered when a module is imported."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pydantic import BaseModel

from laneway.platform.errors import ConfigError
from laneway.platform.workflows.handlers import Handler

registered_handlers: Final[dict[str, Handler]] = {}
"""Handlers by name."""
registered_inputs: Final[dict[str, type[BaseModel]]] = {}
"""Types of input by name."""


def register_handlers(several: Iterable[Handler]) -> None:
    """Let definitions name these handlers. Raises ConfigError for two different handlers of one name."""
    for handler in several:
        if registered_handlers.get(handler.name, handler) != handler:
            raise ConfigError(f"There are two workflow handlers named {handler.name!r}.")
        registered_handlers[handler.name] = handler


def register_input(name: str, kind: type[BaseModel]) -> None:
    """Let definitions name this type of input. Raises ConfigError for two different types of one name."""
    if registered_inputs.get(name, kind) is not kind:
        raise ConfigError(f"There are two workflow inputs named {name!r}.")
    registered_inputs[name] = kind
