"""`laneway batches`: list, show, close and cancel groups of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from laneway.cli.base import Json, out, print_json, print_models, source

if TYPE_CHECKING:
    from laneway.schemas.batch import BatchView

commands = typer.Typer(
    name="batches",
    no_args_is_help=True,
    add_completion=False,
    help="Batches, groups of tasks that end together: list, show, close and cancel them.",
)

BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="The id of the batch.")]
SHOWN: Final = 20
"""Reasons that are printed; --json prints all."""


@commands.command("list")
def listing(
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Only those that are open, or have tasks that have not ended.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The most batches to show.")] = 20,
    as_json: Json = False,
) -> None:
    """List batches with their progress, newest first."""
    found = source(as_json=as_json, reads=True).batches().listing(unfinished=unfinished, limit=limit)
    if as_json:
        return print_models(found)
    from laneway.cli import batch_views

    return out.print(batch_views.batch_table(found) if found else "None.")


@commands.command()
def show(id: BatchId, as_json: Json = False) -> None:
    """Show one batch: progress, times, callbacks. `laneway tasks list --batch` lists its tasks."""
    _print(source(as_json=as_json, reads=True).batches().show(id), as_json=as_json)


@commands.command()
def close(id: BatchId, as_json: Json = False) -> None:
    """Let an open batch end with the last of its tasks."""
    _print(source(as_json=as_json).batches().close(id), as_json=as_json)


@commands.command()
def cancel(
    id: BatchId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: Json = False,
) -> None:
    """Refuse further tasks of a batch, and cancel those that have not ended. Nothing undoes it."""
    if not yes:
        typer.confirm(f"Cancel the batch {id} with all its tasks that have not ended?", abort=True, err=True)
    batches = source(as_json=as_json).batches()
    cancelled, refused = 0, dict[str, str]()
    while True:
        part = batches.cancel(id)
        cancelled, refused = cancelled + part.cancelled, {**refused, **part.refused}
        if not part.left or not part.cancelled:
            break
    if as_json:
        return print_json({"batch_id": id, "cancelled": cancelled, "refused": refused, "left": part.left})
    out.print(f"Cancelled, or asked to stop: {cancelled} tasks.")
    for task, reason in list(refused.items())[:SHOWN]:
        out.print(f"{task}: {reason}")
    if part.left:
        out.print(f"Not stopped: {part.left} tasks. Repeat the command later.")
    return None


def _print(batch: BatchView, *, as_json: bool) -> None:
    if as_json:
        return print_json(batch.model_dump(mode="json"))
    from laneway.cli import batch_views

    return out.print(batch_views.batch_details(batch))
