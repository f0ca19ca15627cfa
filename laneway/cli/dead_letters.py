"""`laneway dead`: list and show dead letters, requeue, discard and restore them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from laneway.cli import views
from laneway.cli.base import DryRun, Id, Json, make_services, out, print_json, print_tasks
from laneway.schemas.task import TaskState

if TYPE_CHECKING:
    from laneway.platform.bulk import BulkResult
    from laneway.platform.db.models import TaskRun
    from laneway.platform.db.queries.search import Filter

commands = typer.Typer(name="dead", no_args_is_help=True, help="Dead letters: tasks that failed for good and are kept.")

Failed = Annotated[bool, typer.Option("--failed", help="Include tasks that failed permanently, without retries.")]
Ids = Annotated[list[str] | None, typer.Argument(help="The ids of the tasks.")]
All = Annotated[bool, typer.Option("--all", help="All dead letters.")]
Group = Annotated[str | None, typer.Option(help="Only this group, see `laneway dead groups`.")]
Name = Annotated[str | None, typer.Option(help="Only tasks of this name.")]
Queue = Annotated[str | None, typer.Option(help="Only tasks of this queue.")]
Tag = Annotated[str | None, typer.Option(help="Only tasks with this tag.")]
Error = Annotated[str | None, typer.Option(help="Only tasks whose error contains this text.")]


@commands.command("list")
def listing(
    failed: Failed = False,
    trashed: Annotated[bool, typer.Option("--trash", help="List the discarded dead letters instead.")] = False,
    group: Group = None,
    name: Name = None,
    queue: Queue = None,
    tag: Tag = None,
    error: Error = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The most tasks to show.")] = 100,
    as_json: Json = False,
) -> None:
    """List the dead letters, newest first."""
    from laneway.platform.db.queries.search import Filter
    from laneway.platform.history.task_views import describe

    selected = Filter(
        states=_states(failed), group=group, name=name, queue=queue, tag=tag, error=error, trashed=trashed
    )
    print_tasks([describe(run) for run in make_services().dead_letters.page(selected, limit=limit)], as_json=as_json)


@commands.command()
def groups(failed: Failed = False, as_json: Json = False) -> None:
    """List groups of tasks that failed the same way (error class and location), the largest group first."""
    from laneway.platform.db.queries.search import Filter

    found = make_services().dead_letters.groups(Filter(states=_states(failed)))
    if as_json:
        return print_json([views.plain(group) for group in found])
    out.print(views.group_table(found) if found else "None.")
    return None


@commands.command()
def show(id: Id, as_json: Json = False) -> None:
    """Show one dead letter with its payload, error and traceback."""
    run = make_services().dead_letters.show(id)
    if as_json:
        return print_json(views.raw(run))
    out.print(views.dead_details(run))
    return None


@commands.command()
def requeue(
    ids: Ids = None,
    everything: All = False,
    group: Group = None,
    name: Name = None,
    queue: Queue = None,
    tag: Tag = None,
    error: Error = None,
    failed: Failed = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Send dead letters to their queues again."""
    selected = _selection(
        ids, everything=everything, failed=failed, group=group, name=name, queue=queue, tag=tag, error=error
    )
    _print_plan(make_services().dead_letters.requeue(selected, dry_run=dry_run), "queued again", as_json=as_json)


@commands.command()
def discard(
    ids: Ids = None,
    everything: All = False,
    group: Group = None,
    name: Name = None,
    queue: Queue = None,
    tag: Tag = None,
    error: Error = None,
    failed: Failed = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Move dead letters to the trash; `restore` brings them back within a day."""
    selected = _selection(
        ids, everything=everything, failed=failed, group=group, name=name, queue=queue, tag=tag, error=error
    )
    _print_plan(make_services().dead_letters.discard(selected, dry_run=dry_run), "discarded", as_json=as_json)


@commands.command()
def restore(
    ids: Ids = None,
    everything: All = False,
    group: Group = None,
    name: Name = None,
    queue: Queue = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Take dead letters out of the trash."""
    selected = _selection(ids, everything=everything, failed=True, group=group, name=name, queue=queue)
    _print_plan(make_services().dead_letters.restore(selected, dry_run=dry_run), "restored", as_json=as_json)


def _states(failed: bool) -> tuple[TaskState, ...]:
    from laneway.platform.operations.dead_letters import DEAD

    return DEAD if failed else (TaskState.DEAD_LETTER,)


def _selection(
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
    """The filter that the options describe. Raises BadParameter unless there is a selection or --all, not both."""
    from laneway.platform.db.queries.search import Filter

    selective = bool(ids or group or name or queue or tag or error)
    if everything == selective:
        raise typer.BadParameter("give task ids, or some of --group, --name, --queue, --tag and --error, or --all")
    return Filter(
        ids=tuple(ids or ()),
        states=_states(failed or bool(ids)),
        group=group,
        name=name,
        queue=queue,
        tag=tag,
        error=error,
    )


def _print_plan(plan: BulkResult[TaskRun], action: str, *, as_json: bool) -> None:
    """Print what was done, or would be done. Exit code 1 if a task was refused or none matched."""
    from laneway.platform.history.task_views import describe

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
        out.print(f"{views.count(plan.matched, 'dead letter')} would be {action}.")
        if plan.samples:
            out.print(views.task_table([describe(run) for run in plan.samples]))
    else:
        out.print(f"{plan.done} of {views.count(plan.matched, 'dead letter')} {action}.")
        for id, reason in plan.refused.items():
            out.print(f"{id}: {reason}")
    if plan.refused or (plan.matched == 0 and not plan.dry_run):
        raise typer.Exit(1)
