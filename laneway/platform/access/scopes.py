"""What a caller may do. A token has some of these scopes, and so has the role of a person.

An application has scopes of its own: any other name without a colon, for its own routes.
"""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """A permission. `ADMIN` contains all others."""

    SUBMIT = "tasks:submit"
    """Submit tasks. A token may have it for one task name only: `tasks:submit:NAME`."""
    READ = "tasks:read"
    """Read tasks, queues, workers, dead letters, workflows and statistics."""
    OPERATE = "tasks:operate"
    """Cancel and retry tasks, signal workflows."""
    QUEUES = "queues:operate"
    """Pause, resume and limit queues."""
    SCHEDULES = "schedules:operate"
    """Make, change, pause, resume and run schedules. To make one takes the right to submit its task, too."""
    DEAD = "dead:operate"
    """Requeue, discard and restore dead letters."""
    WEBHOOKS = "webhooks:manage"
    """Read and manage receivers and deliveries of outbound webhooks, and stored inbound webhooks."""
    DELETE = "history:delete"
    """Delete history and the data of persons."""
    ADMIN = "admin"
    """Everything, and tokens and the audit log."""
