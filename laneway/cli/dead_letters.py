"""`laneway dead`: look through dead letters, send them again, discard and restore them."""

from __future__ import annotations

from typing import Annotated

import typer

from laneway.cli import views
from laneway.cli.base import Id, Json, make_services, out, print_json, print_tasks
from laneway.platform.bulk import BulkResult
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries.search import Filter
from laneway.platform.history.task_views import describe
from laneway.platform.operations.dead_letters import DEAD
from laneway.platform.schemas.task import TaskState

dead = typer.Typer(no_args_is_help=True, help="Dead letters: tasks that failed for good, kept to be looked at.")

Failed = Annotated[bool, typer.Option("--failed", help="Permanent failures too, not only exhausted retries.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Task ids.")]
Everything = Annotated[bool, typer.Option("--all", help="Every one of them.")]
Group = Annotated[str | None, typer.Option(help="Those of one group, see `laneway dead groups`.")]
Name = Annotated[str | None, typer.Option(help="Those of one task.")]
Queue = Annotated[str | None, typer.Option(help="Those of one queue.")]
Tag = Annotated[str | None, typer.Option(help="Those with a tag.")]
Error = Annotated[str | None, typer.Option(help="Those whose error contains this.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say how many and which, and do nothing.")]


@dead.command("list")
def listing(
    failed: Failed = False,
    trashed: Annotated[bool, typer.Option("--trash", help="Those that were discarded.")] = False,
    group: Group = None,
    name: Name = None,
    queue: Queue = None,
    tag: Tag = None,
    error: Error = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    as_json: Json = False,
) -> None:
    """The dead letters, newest first."""
    which = Filter(states=_states(failed), group=group, name=name, queue=queue, tag=tag, error=error, trashed=trashed)
    print_tasks([describe(run) for run in make_services().dead_letters.page(which, limit=limit)], as_json=as_json)


@dead.command()
def groups(failed: Failed = False, as_json: Json = False) -> None:
    """What failed the same way (class of the error and place), the largest group first."""
    found = make_services().dead_letters.groups(Filter(states=_states(failed)))
    if as_json:
        return print_json([views.plain(group) for group in found])
    out.print(views.group_table(found) if found else "None.")
    return None


@dead.command()
def show(id: Id, as_json: Json = False) -> None:
    """One dead letter with its payload, error and traceback."""
    run = make_services().dead_letters.show(id)
    if as_json:
        return print_json(views.raw(run))
    out.print(views.dead_details(run))
    return None


@dead.command()
def requeue(
    ids: Ids = None,
    everything: Everything = False,
    group: Group = None,
    name: Name = None,
    queue: Queue = None,
    tag: Tag = None,
    error: Error = None,
    failed: Failed = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Send dead letters round again."""
    which = _selected(
        ids, everything=everything, failed=failed, group=group, name=name, queue=queue, tag=tag, error=error
    )
    _tell(make_services().dead_letters.requeue(which, dry_run=dry_run), "queued again", as_json=as_json)


@dead.command()
def discard(
    ids: Ids = None,
    everything: Everything = False,
    group: Group = None,
    name: Name = None,
    queue: Queue = None,
    tag: Tag = None,
    error: Error = None,
    failed: Failed = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Put dead letters into the trash; `restore` brings them back within a day."""
    which = _selected(
        ids, everything=everything, failed=failed, group=group, name=name, queue=queue, tag=tag, error=error
    )
    _tell(make_services().dead_letters.discard(which, dry_run=dry_run), "discarded", as_json=as_json)


@dead.command()
def restore(
    ids: Ids = None,
    everything: Everything = False,
    group: Group = None,
    name: Name = None,
    queue: Queue = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Take dead letters out of the trash."""
    which = _selected(ids, everything=everything, failed=True, group=group, name=name, queue=queue)
    _tell(make_services().dead_letters.restore(which, dry_run=dry_run), "restored", as_json=as_json)


def _states(failed: bool) -> tuple[TaskState, ...]:
    return DEAD if failed else (TaskState.DEAD_LETTER,)


def _selected(
    ids: list[str] | None,
    *,
    everything: bool,
    failed: bool,
    group: str | None = None,
    name: str | None = None,
    queue: str | None = None,
    tag: str | None = None,
    error: str | None = None,
) -> Filter:
    said = bool(ids or group or name or queue or tag or error)
    if everything == said:
        raise typer.BadParameter("name the task ids, or --group, --name, --queue, --tag, --error, or say --all")
    return Filter(
        ids=tuple(ids or ()),
        states=_states(failed or bool(ids)),
        group=group,
        name=name,
        queue=queue,
        tag=tag,
        error=error,
    )


def _tell(plan: BulkResult[TaskRun], what: str, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "matched": plan.matched,
                "done": plan.done,
                "dry_run": plan.dry_run,
                "refused": plan.refused,
                "samples": [run.id for run in plan.samples],
            }
        )
    elif plan.dry_run:
        out.print(f"{plan.matched} dead letters would be {what}.")
        if plan.samples:
            out.print(views.task_table([describe(run) for run in plan.samples]))
    else:
        out.print(f"{plan.done} of {plan.matched} dead letters {what}.")
        for id, why in plan.refused.items():
            out.print(f"{id}: {why}")
    if plan.refused or (plan.matched == 0 and not plan.dry_run):
        raise typer.Exit(1)
