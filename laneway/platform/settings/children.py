"""Settings of child processes: which user they become, and what happens if the kernel gives less than is wanted."""

from __future__ import annotations

import os
import pwd
from typing import Literal

from pydantic import Field, field_validator

from laneway.platform.settings.base import Group


class ChildSettings(Group):
    """How child processes that read documents or run commands are confined."""

    user: str = Field("nobody", alias="CHILD_USER", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    """The user that a child becomes if its parent is root. `root` leaves it root, without capabilities."""
    confinement: Literal["best", "required"] = Field("best", alias="CHILD_CONFINEMENT")
    """`required`: a child does not run if the kernel cannot close network, foreign files or `/proc`. `best`: it runs,
    and the log says what stayed open.
    """

    @field_validator("user")
    @classmethod
    def _require_existing_user(cls, value: str) -> str:
        try:
            pwd.getpwnam(value)
        except KeyError:
            raise ValueError(f"CHILD_USER names a user that this system does not have: {value}") from None
        return value

    @property
    def required(self) -> bool:
        """Whether a child must not run with less."""
        return self.confinement == "required"

    def ids(self) -> tuple[int, int] | None:
        """The numbers of the user and its group; None if this process is not root, or children stay root."""
        entry = pwd.getpwnam(self.user)
        return (entry.pw_uid, entry.pw_gid) if os.geteuid() == 0 and entry.pw_uid else None
