"""Roles of people: who has which, and which scopes a role has.

A name in `ROLE_VIEWERS`, `ROLE_OPERATORS` or `ROLE_ADMINS` with an `@` is an e-mail address, any other name is a group.
The two are compared with different facts about a person, so that nobody gets a role by the name of a group.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from laneway.platform.access.scopes import Scope
from laneway.platform.settings.people import PeopleSettings, names_in


class Role(StrEnum):
    """What a person may do, the most powerful role first."""

    ADMIN = "admin"
    OPERATOR = "operator"
    VIEWER = "viewer"


SCOPES: Final[dict[Role, frozenset[str]]] = {
    Role.ADMIN: frozenset({Scope.ADMIN}),
    Role.OPERATOR: frozenset(
        {Scope.READ, Scope.SUBMIT, Scope.OPERATE, Scope.QUEUES, Scope.SCHEDULES, Scope.DEAD, Scope.WEBHOOKS},
    ),
    Role.VIEWER: frozenset({Scope.READ}),
}
"""Role → the scopes that it has in every application."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom a provider or a proxy has named."""

    name: str
    """The e-mail address, or another name that the provider gives to nobody else."""
    email: str | None = None
    """The e-mail address, if the provider has verified it."""
    groups: frozenset[str] = field(default_factory=frozenset[str])


class Roles:
    """The roles of people, and the scopes of roles, as the settings say."""

    def __init__(self, settings: PeopleSettings) -> None:
        self._names = {
            Role.ADMIN: names_in(settings.admins),
            Role.OPERATOR: names_in(settings.operators),
            Role.VIEWER: names_in(settings.viewers),
        }
        self._more = {
            Role.ADMIN: (),
            Role.OPERATOR: names_in(settings.operator_scopes),
            Role.VIEWER: names_in(settings.viewer_scopes),
        }

    def role_of(self, person: Person) -> Role | None:
        """The most powerful role of a person; None if the settings give none."""
        facts = {group for group in person.groups if "@" not in group}
        if person.email is not None:
            facts.add(person.email.casefold())
        return next((role for role, names in self._names.items() if facts.intersection(map(_compared, names))), None)

    def scopes_of(self, role: Role) -> frozenset[str]:
        """The scopes of a role in this application."""
        return SCOPES[role] | frozenset(self._more[role])


def _compared(name: str) -> str:
    return name.casefold() if "@" in name else name
