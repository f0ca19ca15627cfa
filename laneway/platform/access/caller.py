"""Who asks: kept for the thread or the task of an event loop that serves a request, and for a command."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from laneway.platform.access.scopes import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody who does something on the platform."""

    kind: str
    """`token`, `person`, `command` (a command line on this machine), `task` (a task of the platform) or `anonymous`."""
    name: str
    """Who it is, as an operator knows them: a token's name, a person's e-mail address, a user of this machine."""
    scopes: frozenset[str] = frozenset()
    """Scopes, and `tasks:submit:NAME` for single tasks."""
    tenant: str | None = None
    """The tenant whose tasks the caller may see and submit. None: no limit."""
    queues: frozenset[str] | None = None
    """The queues that the caller may use. None: all."""
    names: frozenset[str] | None = None
    """The names of the tasks that the caller may use. None: all."""
    request_id: str | None = None
    """The id of the HTTP request."""

    def may(self, scope: str) -> bool:
        """Whether the caller has this scope, for everything that it covers."""
        return Scope.ADMIN in self.scopes or scope in self.scopes

    def may_submit(self, name: str) -> bool:
        """Whether the caller may submit tasks of this name."""
        return self.may(Scope.SUBMIT) or f"{Scope.SUBMIT}:{name}" in self.scopes

    @property
    def is_bound(self) -> bool:
        """Whether the caller is limited to a tenant, to queues or to names of tasks."""
        return not (self.tenant is None and self.queues is None and self.names is None)


NOBODY: Final = Caller(kind="anonymous", name="anonymous", scopes=frozenset({Scope.ADMIN}))
"""The caller when authentication is off."""

_caller: ContextVar[Caller] = ContextVar("caller", default=NOBODY)


def current_caller() -> Caller:
    """The caller of the request, command or task that runs here."""
    return _caller.get()


def set_caller(caller: Caller) -> None:
    """Set the caller of this context from now on."""
    _caller.set(caller)


@contextmanager
def acting_as(caller: Caller) -> Generator[None]:
    """While the block runs, this is the caller."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)
