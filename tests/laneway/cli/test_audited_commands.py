"""Each command that changes something writes an entry into the audit log; the others are named here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from typer import Typer
from typer.main import get_group

from app.cli import add_commands
from laneway.cli.command_line import COMMANDS, load_command
from laneway.platform.db.queries.audit_log import AuditLogFilter
from tests.fixtures.shell import Shell

READS = {
    *("doctor", "gate", "limits list", "schedules list", "schedules show"),
    *("stats", "tasks list", "tasks show", "tasks attempts", "tasks follow", "search", "status", "active", "attempts"),
    *("why", "events", "output", "tasks actions"),
    *("watch", "workers", "alerts list", "dead list", "dead show", "dead groups", "queues list", "queues routes"),
    *("callbacks list", "callbacks show", "callbacks endpoints", "callbacks destinations", "workflows list"),
    *(
        "workflows show",
        "workflows definitions",
        "batches list",
        "batches show",
        "schedules list",
        "schedules show",
        "sessions list",
        "tokens list",
        "keys list",
        "audit-log list",
    ),
    *("audit-log verify", "audit-log prove", "webhooks list", "webhooks show", "webhooks stats", "webhooks mapping"),
}
ON_A_FILE = "it works on the file of the key ring alone, also on a machine without the database"
PROCESSES = "it starts or stops processes; their log says so, and the installation may have no database yet"
EXCEPTIONS = {
    "new": "it writes a new project; there is no platform yet",
    "adopt": "it works on another Celery project; the platform has no database of it",
    "up": PROCESSES,
    "down": PROCESSES,
    "worker": PROCESSES,
    "broker": PROCESSES,
    "prepare": PROCESSES,
    "keys create": ON_A_FILE,
    "keys rotate": ON_A_FILE,
    "keys remove": ON_A_FILE,
    "submit": "it accepts work; the row of the task says what",
    "workflows start": "it accepts work; the row of the run says what",
    "drill": "it works with tasks, workers and servers of its own, and leaves nothing behind",
    "top": "each of its actions is that of another command, with its entry",
    "demo": "it sends work to the API, as a program does",
    "ingest": "it accepts documents; their rows say what and when",
}
"""Command → why it writes no entry."""
BY_SERVICE = {
    "tasks cancel": "task.cancel",
    "cancel": "task.cancel",
    "tasks retry": "task.retry",
    "tasks replay": "task.replay",
    "tasks reprioritise": "task.reprioritise",
    "tasks undo": "task.undo_cancel",
    "retry": "task.retry",
    "dead requeue": "dead_letter.requeue",
    "dead retry": "dead_letter.requeue",
    "dead discard": "dead_letter.discard",
    "dead restore": "dead_letter.restore",
    "batches close": "batch.close",
    "batches cancel": "batch.cancel",
    "schedules change": "schedule.change",
    "schedules delete": "schedule.delete",
    "schedules pause": "schedule.pause",
    "schedules resume": "schedule.resume",
    "schedules run": "schedule.run",
    "queues resume": "queue.resume",
    "queues limit": "queue.limit",
    "callbacks replay": "delivery.replay",
    "callbacks enable": "receiver.enable",
    "callbacks disable": "receiver.disable",
    "callbacks rotate": "destination.rotate",
    "callbacks remove": "destination.remove",
    "callbacks subscribe": "destination.subscribe",
    "callbacks unsubscribe": "destination.unsubscribe",
    "signal": "task.signal",
    "limits set": "limit.set",
    "limits remove": "limit.remove",
    "workflows cancel": "workflow.cancel",
    "workflows pause": "workflow.pause",
    "workflows resume": "workflow.resume",
    "workflows retry": "workflow.retry",
    "workflows signal": "workflow.signal",
    "tokens rotate": "token.rotate",
    "tokens revoke": "token.revoke",
    "erase": "person.erase",
    "broker users": "broker.users",
    "webhooks replay": "webhook_event.replay",
    "webhooks discard": "webhook_event.discard",
    "keys reencrypt": "keys.reencrypt",
    "alerts test": "alerts.test",
}
"""Command → the action of its entry. It calls the service that a route calls, or has a test of its own."""
CALLS = {
    "audit": (("audit", "--repair"), "history.repair"),
    "flush": (("flush", "crm", "--yes"), "queue.flush"),
    "clear": (("clear", "--older-than", "9999d", "--yes"), "history.clear"),
    "cleanup": (("cleanup",), "history.cleanup"),
    "queues pause": (("queues", "pause", "crm"), "queue.pause"),
    "queues take-in": (("queues", "take-in", "elsewhere"), "queue.take_in"),
    "schedules create": (
        ("schedules", "create", "audited", "--task", "cleanup_old_data_task", "--cron", "0 3 * * *"),
        "schedule.create",
    ),
    "callbacks register": (("callbacks", "register", "audited", "https://audited.example/"), "destination.register"),
    "callbacks reencrypt": (("callbacks", "reencrypt"), "destination.reencrypt"),
    "tokens create": (("tokens", "create", "audited", "--scope", "leads"), "token.create"),
    "sessions end": (("sessions", "end", "nobody"), "person.end_sessions"),
}
"""Command → how it is called, and the action of its entry."""


def names(command: Any, name: str) -> Iterator[str]:
    """The command, or each command of a group; a group that does something without a command, too."""
    parts = getattr(command, "commands", None)
    if parts is None or command.invoke_without_command:
        yield name
    for part, each in (parts or {}).items():
        yield from names(each, f"{name} {part}")


def test_every_command_reads_has_an_entry_or_has_a_reason() -> None:
    added = Typer()
    add_commands(added)
    commands = {**{name: load_command(name) for name in COMMANDS}, **get_group(added).commands}
    found = {each for name, command in commands.items() for each in names(command, name)}
    known = [*READS, *EXCEPTIONS, *BY_SERVICE, *CALLS]

    assert found - set(known) == set()
    assert set(known) - found == set()
    assert len(known) == len(set(known)), "a command is in two lists"


@pytest.mark.parametrize("command", CALLS)
def test_the_command_writes_its_entry(command: str, laneway: Shell) -> None:
    words, action = CALLS[command]
    audit_log = laneway.site.services.audit_log
    last = max((entry.seq for entry in audit_log.page(AuditLogFilter(), limit=1).entries), default=0)

    ran = laneway(*words)

    new = [entry for entry in audit_log.page(AuditLogFilter(), limit=100).entries if entry.seq > last]
    assert [(entry.action, entry.caller_kind) for entry in new] == [(action, "command")], (ran.out, ran.err)
