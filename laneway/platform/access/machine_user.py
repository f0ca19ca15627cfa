"""The user of this machine, as the caller that the audit log names for a command."""

from __future__ import annotations

import os
from pwd import getpwuid

from laneway.platform.access.caller import Caller
from laneway.platform.access.scopes import Scope


def machine_user() -> Caller:
    """The user of this process. Environment variables do not say who that is."""
    number = os.getuid()
    try:
        name = getpwuid(number).pw_name
    except KeyError:  # such as in a container
        name = f"uid {number}"
    return Caller(kind="command", name=name, scopes=frozenset({Scope.ADMIN}))
