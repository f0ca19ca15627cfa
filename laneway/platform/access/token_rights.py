"""What a token may do: its scopes, and what it is bound to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from laneway._suggestion import suggest
from laneway.platform.access.errors import InvalidToken
from laneway.platform.access.scopes import Scope
from laneway.platform.queues import queues as declared
from laneway.platform.registry import registry

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
TENANT: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
OWN_SCOPE: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}")
"""A scope of an application."""
LONGEST: Final = timedelta(days=3660)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRights:
    """What a token may do."""

    scopes: frozenset[str]
    """Scopes, and `tasks:submit:NAME` for single tasks."""
    queues: frozenset[str] | None = None
    """The queues that it may use. None: all."""
    names: frozenset[str] | None = None
    """The names of the tasks that it may use. None: all."""
    tenant: str | None = None
    """The tenant within which its tasks and ids stay. None: no limit."""


def checked(name: str, rights: TokenRights, expires: timedelta | None) -> None:
    """Raise InvalidToken for what no token can have."""
    problem = next(filter(None, (_name_problem(name), _rights_problem(rights))), None)
    if problem is not None:
        raise InvalidToken(name, problem)
    check_expiry(name, expires)


def check_expiry(name: str, expires: timedelta | None) -> None:
    """Raise InvalidToken for a time that is too long, or over at once. None: it never expires."""
    if (problem := _expiry_problem(expires)) is not None:
        raise InvalidToken(name, problem)


def _name_problem(name: str) -> str | None:
    return None if NAME.fullmatch(name) else "a name has up to 64 of the characters a-z 0-9 . _ -"


def _expiry_problem(expires: timedelta | None) -> str | None:
    if expires is None or timedelta() < expires <= LONGEST:
        return None
    return f"it must expire within {LONGEST.days} days, or never"


def _rights_problem(rights: TokenRights) -> str | None:
    if not rights.scopes:
        return "it needs at least one scope"
    for scope in sorted(rights.scopes):
        if problem := _scope_problem(scope):
            return problem
    for queue in sorted(rights.queues or ()):
        if queue not in declared:
            return f"there is no queue {suggest(queue, declared)}"
    for task in sorted(rights.names or ()):
        if task not in registry:
            return f"no task is registered as {suggest(task, registry)}"
    if rights.queues == frozenset() or rights.names == frozenset():
        return "it would be bound to no queue or to no task"
    if rights.tenant is not None and not TENANT.fullmatch(rights.tenant):
        return "a tenant has up to 32 of the characters a-z 0-9 -"
    return None


def _scope_problem(scope: str) -> str | None:
    task = scope.removeprefix(f"{Scope.SUBMIT}:")
    if task != scope:
        return None if task in registry else f"no task is registered as {suggest(task, registry)}"
    if scope in set(Scope) or OWN_SCOPE.fullmatch(scope):
        return None
    known = [str(each) for each in Scope]
    return f"there is no scope {suggest(scope, known)}; there are {', '.join(known)}, and those of the application"
