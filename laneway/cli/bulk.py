"""`laneway tasks cancel|retry|replay|reprioritise` for one task, some, or all that a filter selects; and their undo.

A dry run shows how many match. Without it, and without --yes, the command asks before it changes what a filter selects.
It does so in parts, and shows at a terminal how far it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from laneway.cli import tasks as single
from laneway.cli.base import DryRun, Json, out, print_json, say_error, source, valid
from laneway.cli.completion import complete
from laneway.cli.tasks import commands, progress_bar, tasks
from laneway.cli.times import moment_option
from laneway.schemas.choices import PriorityName, TaskState

if TYPE_CHECKING:
    from laneway.schemas.bulk import TasksActionResponse, TaskSelection, UndoResponse

__all__ = ["commands", "tasks"]

PART: Final = 500
"""Tasks of one call, so that an operator sees how far a long action is."""
MOST: Final = 100_000
SHOWN: Final = 20
"""Reasons that are printed; --json prints all."""

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
Limit = Annotated[int, typer.Option(min=1, max=MOST, help="The most tasks to change.")]


def selected(
    ids: Annotated[
        list[str] | None, typer.Argument(help="The ids of the tasks.", autocompletion=complete("ids"))
    ] = None,
    state: Annotated[list[TaskState] | None, typer.Option(help="Only tasks in this state; repeatable.")] = None,
    name: Annotated[str | None, typer.Option(help="Only tasks of this name.", autocompletion=complete("names"))] = None,
    queue: Annotated[
        str | None, typer.Option(help="Only tasks of this queue.", autocompletion=complete("queues"))
    ] = None,
    key: Annotated[str | None, typer.Option(help="Only tasks with this ordering key.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only tasks with this tag.")] = None,
    batch: Annotated[str | None, typer.Option(help="Only tasks of this batch.")] = None,
    group: Annotated[str | None, typer.Option(help="Only tasks that failed the same way, see `dead groups`.")] = None,
    error: Annotated[str | None, typer.Option(help="Only tasks whose error contains this text.")] = None,
    text: Annotated[str | None, typer.Option(help="Only tasks whose payload or error contains this text.")] = None,
    since: Annotated[
        Any, moment_option("Only tasks accepted at this time or later: 2h (ago), 2026-01-31T09:30.")
    ] = None,
    until: Annotated[Any, moment_option("Only tasks accepted before this time: 2h (ago), 2026-01-31T09:30.")] = None,
    ended_since: Annotated[Any, moment_option("Only tasks that ended at this time or later.")] = None,
    ended_until: Annotated[Any, moment_option("Only tasks that ended before this time.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All tasks.")] = False,
) -> dict[str, Any]:
    """What the options select, as the fields of a request. Raises BadParameter without any, and for --all with some."""
    given: dict[str, Any] = {"ids": ids or [], "state": state or [], "name": name, "queue": queue, "key": key}
    given |= {"tag": tag, "batch": batch, "group": group, "error": error, "text": text, "since": since, "until": until}
    given |= {"ended_since": ended_since, "ended_until": ended_until}
    criteria = {field: value for field, value in given.items() if value}
    if everything == bool(criteria):
        raise typer.BadParameter("give task ids, or options that select tasks, or --all")
    return {**criteria, "everything": everything}


def with_selection(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `selected`; it gets what they select as its first argument."""
    names = inspect.signature(selected, eval_str=True).parameters
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

    @wraps(command)
    def run(**given: Any) -> None:
        command(selected(**{name: given.pop(name) for name in names}), **given)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [each.replace(kind=keyword) for each in (*names.values(), *own)]
    run.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue] - typer reads it
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    del run.__wrapped__  # pyright: ignore[reportAttributeAccessIssue] - its signature is another one
    return run


@tasks.command("cancel")
@with_selection
def cancel_tasks(
    which: dict[str, Any], limit: Limit = 10_000, dry_run: DryRun = False, yes: Yes = False, as_json: Json = False
) -> None:
    """Cancel a task, some tasks, or all that the options select.

    A waiting task never runs; a running task is asked to stop. `laneway tasks undo` lets tasks wait again that had not
    started; it cannot undo a request to stop.
    """
    if _is_one(which, dry_run=dry_run):
        return single.cancel(which["ids"][0], as_json=as_json)
    return _Bulk("cancel", "cancel", "cancelled", as_json=as_json).run(which, limit=limit, dry_run=dry_run, yes=yes)


@tasks.command("retry")
@with_selection
def retry_tasks(
    which: dict[str, Any], limit: Limit = 10_000, dry_run: DryRun = False, yes: Yes = False, as_json: Json = False
) -> None:
    """Run finished tasks again, as new attempts of the same tasks: one, some, or all that the options select.

    Nothing undoes it: `laneway tasks cancel` stops those that have not started.
    """
    if _is_one(which, dry_run=dry_run):
        return single.retry(which["ids"][0], as_json=as_json)
    return _Bulk("retry", "retry", "queued again", as_json=as_json).run(which, limit=limit, dry_run=dry_run, yes=yes)


@tasks.command()
@with_selection
def replay(
    which: dict[str, Any], limit: Limit = 10_000, dry_run: DryRun = False, yes: Yes = False, as_json: Json = False
) -> None:
    """Submit finished tasks once more, as new tasks with the same payloads; the old ones keep their results.

    A payload is checked by the model that the task has now; a task whose payload does not fit is named and stays as it
    is. `laneway tasks undo` cancels copies that have not started.
    """
    _Bulk("replay", "replay", "replayed", as_json=as_json).run(which, limit=limit, dry_run=dry_run, yes=yes)


@tasks.command()
@with_selection
def reprioritise(
    which: dict[str, Any],
    priority: Annotated[PriorityName, typer.Option(help="The new priority.")],
    limit: Limit = 10_000,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Give waiting tasks another priority. `laneway tasks undo` gives those back their old one that still wait."""
    which = {**which, "priority": priority}
    bulk = _Bulk("reprioritise", "reprioritise", f"given the priority {priority.value}", as_json=as_json)
    bulk.run(which, limit=limit, dry_run=dry_run, yes=yes)


@tasks.command()
def actions(as_json: Json = False) -> None:
    """List the actions on many tasks of the last day, and what of them can be undone."""
    found = source(as_json=as_json, reads=True).maintenance.bulk_actions()
    if as_json:
        return print_json([each.model_dump(mode="json") for each in found])
    from laneway.cli import views

    return out.print(views.bulk_action_table(found) if found else "None.")


@tasks.command()
def undo(
    action: Annotated[str, typer.Argument(help="The id of the action, see `laneway tasks actions`.")],
    as_json: Json = False,
) -> None:
    """Undo a cancel, a new priority or a replay of many tasks, within an hour.

    Cancelled tasks wait again if they waited; tasks that still wait get their old priority; copies that have
    not started are cancelled. What has run stays as it is.
    """
    maintenance, done, refused = source(as_json=as_json).maintenance, 0, dict[str, str]()
    while True:
        part: UndoResponse = maintenance.undo(action)
        done, refused = done + part.done, refused | part.refused
        if not part.more:
            break
    if as_json:
        print_json(part.model_copy(update={"done": done, "refused": refused}).model_dump(mode="json"))
    else:
        from laneway.cli import views

        out.print(f"Undone for {views.count(done, 'task')}.")
        _print_refused(refused)
    if refused:
        raise typer.Exit(1)


def _is_one(which: dict[str, Any], *, dry_run: bool) -> bool:
    """Whether one task is named and nothing else: then the command answers as its short form does."""
    return len(which.get("ids", ())) == 1 and len(which) == 2 and not dry_run


class _Bulk:
    """One action on many tasks, for one run of a command."""

    def __init__(self, action: str, verb: str, done: str, *, as_json: bool) -> None:
        self._action, self._verb, self._done, self._as_json = action, verb, done, as_json

    def run(self, which: dict[str, Any], *, limit: int, dry_run: bool, yes: bool) -> None:
        """Do it, or only count the tasks. Exit code 1: nothing matches, or some tasks were refused."""
        selection = self._selection(which | {"dry_run": True, "most": min(limit, PART)})
        asks = not (yes or dry_run or which.get("ids"))
        if dry_run or asks:
            plan = source(as_json=self._as_json).maintenance.change_tasks(self._action, selection)
            if dry_run:
                return self._print_plan(plan)
            matched = _matched(plan)
            typer.confirm(f"{self._verb.capitalize()} {matched}, at most {limit:,}?", abort=True)
        # Another source: an API does not keep a connection open while a person thinks.
        result = self._in_parts(selection.model_copy(update={"dry_run": False}), limit)
        self._print_result(result)
        if result.refused or result.matched == 0:
            raise typer.Exit(1)
        return None

    def _selection(self, fields: dict[str, Any]) -> TaskSelection:
        from laneway.schemas.bulk import PrioritySelection, TaskSelection

        return valid(PrioritySelection if "priority" in fields else TaskSelection, **fields)

    def _in_parts(self, selection: TaskSelection, limit: int) -> TasksActionResponse:
        from rich.console import Console

        maintenance, screen = source(as_json=self._as_json).maintenance, Console(stderr=True)
        whole: TasksActionResponse | None = None
        with progress_bar(screen, disabled=not screen.is_terminal) as bar:
            row = bar.add_task(self._done, total=None)
            try:
                while True:
                    part = maintenance.change_tasks(self._action, selection)
                    whole = part if whole is None else _sum(whole, part)
                    bar.update(row, total=limit if part.next else whole.matched, completed=whole.matched)
                    left = limit - whole.matched
                    if part.next is None or left <= 0:
                        return whole
                    next_part = {"before": part.next, "most": min(left, PART), "action": whole.action}
                    selection = selection.model_copy(update=next_part)
            except BaseException:
                if whole is not None:
                    undo = f" Undo: laneway tasks undo {whole.action}" if whole.action else ""
                    say_error(f"{whole.done} tasks {self._done}. Repeat the command for the rest.{undo}")
                raise

    def _print_plan(self, plan: TasksActionResponse) -> None:
        if self._as_json:
            return print_json(plan.model_dump(mode="json"))
        out.print(f"{_matched(plan)} would be {self._done}.")
        for id in plan.samples:
            out.print(id)
        return None

    def _print_result(self, result: TasksActionResponse) -> None:
        if self._as_json:
            return print_json(result.model_dump(mode="json"))
        from laneway.cli import views

        out.print(f"{result.done:,} of {views.count(result.matched, 'task')} {self._done}.")
        for id, copy in list(result.copies.items())[:SHOWN]:
            out.print(f"{id}: replayed as {copy}")
        _print_refused(result.refused)
        if result.next is not None:
            out.print("More tasks match: repeat the command, or give a larger --limit.")
        if result.action is not None and isinstance(result.undo_until, datetime):
            out.print(f"Undo until {result.undo_until.astimezone():%H:%M}: laneway tasks undo {result.action}")
        return None


def _matched(plan: TasksActionResponse) -> str:
    from laneway.cli import views

    if plan.total is not None:
        return views.count(plan.total, "task")
    return f"{plan.matched:,} or more tasks"


def _sum(first: TasksActionResponse, then: TasksActionResponse) -> TasksActionResponse:
    """The outcome of two calls as one."""
    values = {"matched": first.matched + then.matched, "done": first.done + then.done, "ids": [*first.ids, *then.ids]}
    values |= {"refused": first.refused | then.refused, "copies": first.copies | then.copies}
    values |= {"more": then.more, "next": then.next, "action": first.action or then.action}
    return first.model_copy(update={**values, "undo_until": first.undo_until or then.undo_until})


def _print_refused(refused: dict[str, str]) -> None:
    for id, reason in list(refused.items())[:SHOWN]:
        out.print(f"{id}: {reason}")
    if len(refused) > SHOWN:
        out.print(f"… and {len(refused) - SHOWN:,} more; --json prints all.")
