"""The pages that a web console leads to. A module with routes names its pages in a tuple `navigation`."""

from __future__ import annotations

from dataclasses import dataclass

from laneway.platform.access.scopes import Scope


@dataclass(frozen=True, slots=True)
class NavigationEntry:
    """A page."""

    title: str
    path: str
    letter: str = ""
    """The key that opens it after `g`. Empty: none."""
    scope: str = Scope.READ
    """Callers without this scope are not led to it."""
    group: str = ""
    """The heading under which it stands. Empty: among the first."""
