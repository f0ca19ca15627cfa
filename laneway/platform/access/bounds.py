"""What a caller that is bound to a tenant, to queues or to names of tasks may see and change.

A task belongs to a tenant if its id begins with `tenant:NAME:`. Nobody else can make such an id: an id from outside has
no colon, and the platform puts the prefix before each id that a token of the tenant submits.
"""

from __future__ import annotations

from typing import Final

from laneway.platform.access.caller import Caller
from laneway.platform.access.errors import NotAllowed

TENANT: Final = "tenant:"


def tenant_prefix(tenant: str) -> str:
    """What the ids of a tenant's tasks begin with."""
    return f"{TENANT}{tenant}:"


def tenant_part(id: str) -> str:
    """The prefix of the tenant to which a task belongs; an empty text for a task of no tenant."""
    tenant = id.removeprefix(TENANT).partition(":")[0] if id.startswith(TENANT) else ""
    return tenant_prefix(tenant) if tenant and id.startswith(tenant_prefix(tenant)) else ""


def covers(caller: Caller, id: str, *, name: str, queue: str) -> bool:
    """Whether a caller may see the task of this id, name and queue."""
    return (
        (caller.tenant is None or id.startswith(tenant_prefix(caller.tenant)))
        and (caller.queues is None or queue in caller.queues)
        and (caller.names is None or name in caller.names)
    )


def require_queue(caller: Caller, queue: str) -> None:
    """Raise NotAllowed, unless a caller may see and change a queue as a whole."""
    if caller.tenant is not None or caller.names is not None:
        raise NotAllowed(caller.name, "its token is bound to some tasks, and a queue has others, too")
    if caller.queues is not None and queue not in caller.queues:
        raise NotAllowed(caller.name, f"its token is not for the queue {queue!r}")
