"""`laneway dead`: list and show dead letters, requeue, discard and restore them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from laneway.cli.base import DryRun, Json, out, print_json, print_models, say_error, source, valid
from laneway.cli.completion import complete
from laneway.cli.source import DeadLetterFilter

if TYPE_CHECKING:
    from laneway.cli.source import Source
    from laneway.schemas.history import BulkActionResponse, DeadLetterSelection

commands = typer.Typer(
    name="dead",
    no_args_is_help=True,
    add_completion=False,
    help="Dead letters: tasks that failed for good and are kept.",
)

PART: Final = 500
"""Dead letters of one call, so that an operator sees how far a long action is."""
Id = Annotated[str, typer.Argument(help="The task's id.", autocompletion=complete("dead"))]
Failed = Annotated[bool, typer.Option("--failed", help="Include tasks that failed permanently, without retries.")]
Ids = Annotated[list[str] | None, typer.Argument(help="The ids of the tasks.", autocompletion=complete("dead"))]
All = Annotated[bool, typer.Option("--all", help="All dead letters.")]
Group = Annotated[str | None, typer.Option(help="Only this group, see `laneway dead groups`.")]
Name = Annotated[str | None, typer.Option(help="Only tasks of this name.", autocompletion=complete("names"))]
Queue = Annotated[str | None, typer.Option(help="Only tasks of this queue.", autocompletion=complete("queues"))]
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
    selected = DeadLetterFilter(
        failed=failed, trashed=trashed, group=group, name=name, queue=queue, tag=tag, error=error
    )
    found = source(as_json=as_json, reads=True).dead_letters(selected, limit=limit)
    if as_json:
        return print_models(found)
    from laneway.cli import views

    return out.print(views.dead_table(found) if found else "None.")


@commands.command()
def groups(failed: Failed = False, as_json: Json = False) -> None:
    """List groups of tasks that failed the same way (error class and location), the largest group first."""
    found = source(as_json=as_json, reads=True).dead_letter_groups(failed=failed)
    if as_json:
        return print_models(found)
    from laneway.cli import views

    return out.print(views.group_table(found) if found else "None.")


@commands.command()
def show(id: Id, as_json: Json = False) -> None:
    """Show one dead letter with its payload, error and traceback."""
    letter = source(as_json=as_json, reads=True).dead_letter(id)
    if as_json:
        return print_json(letter.model_dump(mode="json"))
    from laneway.cli import views

    return out.print(views.dead_details(letter))


@commands.command("retry")
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
        ids,
        everything=everything,
        failed=failed,
        group=group,
        name=name,
        queue=queue,
        tag=tag,
        error=error,
        dry_run=dry_run,
    )
    _change("requeue", selected, "queued again", as_json=as_json)


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
        ids,
        everything=everything,
        failed=failed,
        group=group,
        name=name,
        queue=queue,
        tag=tag,
        error=error,
        dry_run=dry_run,
    )
    _change("discard", selected, "discarded", as_json=as_json)


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
    selected = _selection(ids, everything=everything, failed=True, group=group, name=name, queue=queue, dry_run=dry_run)
    _change("restore", selected, "restored", as_json=as_json)


def _selection(
    ids: list[str] | None,
    *,
    everything: bool,
    failed: bool,
    dry_run: bool,
    group: str | None = None,
    name: str | None = None,
    queue: str | None = None,
    tag: str | None = None,
    error: str | None = None,
) -> DeadLetterSelection:
    """What the options select. Raises BadParameter unless there is a selection or --all, not both."""
    from laneway.schemas.history import DeadLetterSelection

    if everything == bool(ids or group or name or queue or tag or error):
        raise typer.BadParameter("give task ids, or some of --group, --name, --queue, --tag and --error, or --all")
    return valid(
        DeadLetterSelection,
        ids=ids or [],
        group=group,
        name=name,
        queue=queue,
        tag=tag,
        error=error,
        failed=failed,
        everything=everything,
        dry_run=dry_run,
    )


def _change(action: str, selected: DeadLetterSelection, done: str, *, as_json: bool) -> None:
    """Change the selected dead letters and print what was done, or would be done."""
    platform = source(as_json=as_json)
    if selected.ids or selected.dry_run:
        plan = platform.change_dead_letters(action, selected)
    else:
        plan = _change_in_parts(platform, action, selected, done)
    if as_json:
        print_json(plan.model_dump(mode="json"))
    else:
        _print_plan(plan, done)
    if plan.refused or (plan.matched == 0 and not plan.dry_run):
        raise typer.Exit(1)


def _change_in_parts(platform: Source, action: str, selected: DeadLetterSelection, done: str) -> BulkActionResponse:
    """Change the selected ones part by part, and show at a terminal how far it is."""
    from rich.console import Console

    from laneway.cli.tasks import progress_bar

    screen, changed, refused, left = Console(stderr=True), 0, dict[str, str](), selected
    with progress_bar(screen, disabled=not screen.is_terminal) as bar:
        row = bar.add_task(done, total=None)
        matched = None
        try:
            while True:
                part = platform.change_dead_letters(action, left.model_copy(update={"most": PART}))
                matched = part.matched if matched is None else matched
                changed, refused = changed + part.done, refused | part.refused
                bar.update(row, total=matched, completed=changed + len(refused))
                if part.next is None:
                    return part.model_copy(update={"matched": matched, "done": changed, "refused": refused})
                left = left.model_copy(update={"before": part.next})
        except BaseException:
            if matched is not None:
                say_error(f"{changed} of {matched} dead letters {done}. Repeat the command for the rest.")
            raise


def _print_plan(plan: BulkActionResponse, done: str) -> None:
    from laneway.cli import views

    if plan.dry_run:
        out.print(f"{views.count(plan.matched, 'dead letter')} would be {done}.")
        for id in plan.samples:
            out.print(id)
        return
    out.print(f"{plan.done} of {views.count(plan.matched, 'dead letter')} {done}.")
    for id, reason in plan.refused.items():
        out.print(f"{id}: {reason}")
