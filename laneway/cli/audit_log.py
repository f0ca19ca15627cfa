"""`laneway audit-log`: who did what to which object, and whether anybody has changed that since."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from laneway.cli.base import Json, make_services, out, print_json, print_models, source
from laneway.cli.source_parts import AuditLogSelection
from laneway.cli.target import target
from laneway.cli.times import moment_option

if TYPE_CHECKING:
    from laneway.schemas.audit_log import AuditLogVerification

commands = typer.Typer(
    name="audit-log",
    no_args_is_help=True,
    add_completion=False,
    help="The audit log: who did what; check that nobody changed it.",
)

_EXPECTED: Final = r"[0-9]{1,18}:[0-9a-f]{64}"


@commands.command("list")
def listing(
    action: Annotated[
        str | None, typer.Option(help="Only this action, or its first part: queue selects queue.pause.")
    ] = None,
    object: Annotated[str | None, typer.Option("--object", help="Only this object: an id or a name.")] = None,
    caller: Annotated[str | None, typer.Option(help="Only what this caller did.")] = None,
    request_id: Annotated[str | None, typer.Option(help="Only what this HTTP request did.")] = None,
    since: Annotated[datetime | None, moment_option("Since then: 2h (two hours ago), 2026-01-31.")] = None,
    until: Annotated[datetime | None, moment_option("Before then.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Show at most this many entries.")] = 50,
    as_json: Json = False,
) -> None:
    """List the entries, newest first."""
    which = AuditLogSelection(
        action=action, object=object, caller=caller, request_id=request_id, since=since, until=until
    )
    found = source(as_json=as_json).access.audit_log(which, limit=limit)
    if as_json:
        return print_models(found)
    from laneway.cli.audit_log_view import audit_log_table

    return out.print(audit_log_table(found) if found else "None.")


@commands.command()
def verify(
    expect: Annotated[
        str | None,
        typer.Option(metavar="NUMBER:HASH", help="Also require this entry, as an earlier check has printed it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check that every entry is as it was written, and name the first one that is not.

    Exit code 1: an entry was changed, removed or inserted. Whoever can write to the database could write the whole log
    anew; the printed number and hash, kept elsewhere and given as --expect later, show that, too.
    """
    if expect is not None and not re.fullmatch(_EXPECTED, expect):
        raise typer.BadParameter("--expect is a number and a hash, such as 17:3f…, as `audit-log verify` prints them.")
    found = source(as_json=as_json).access.verify_audit_log(expected=expect)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        out.print(_sentence(found))
    raise typer.Exit(0 if found.holds else 1)


@commands.command()
def prove(
    entry: Annotated[int, typer.Argument(min=1, help="The number of the entry, as `laneway erase` has printed it.")],
    subject: Annotated[str, typer.Option(help="The person, as it was given to `laneway erase`.")],
    receipt: Annotated[str, typer.Option(help="The receipt that `laneway erase` has printed.")],
) -> None:
    """Say whether an entry proves that the data of this person was erased. Exit code 1: it does not."""
    target.require_local()
    if make_services().erasure.is_proof(entry, name=subject, receipt=receipt):
        return out.print(f"Entry {entry} proves that the data of this person was erased.")
    out.print(f"Entry {entry} is no proof about this person.")
    raise typer.Exit(1)


def _sentence(found: AuditLogVerification) -> str:
    if found.damage is None:
        return f"All {found.entries} entries are as they were written. {found.entries}:{found.hash}"
    meanings = {
        "changed": "was changed",
        "removed": "was removed",
        "inserted": "was inserted",
        "erased": "has lost its contents, and no later entry says who erased them",
    }
    return f"Entry {found.entry} {meanings[found.damage]}. The {found.entries} entries before it hold."
