"""`laneway webhooks`: the events of inbound webhooks, what became of them, replay, and the mapping in force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from app.schemas.webhook_choices import OPEN, EventState
from laneway.cli.base import Json, make_services, out, print_json, say_error
from laneway.cli.tables import Fields, Grid, ident, number, text, when

if TYPE_CHECKING:
    from app.schemas.webhook_event import ChangedEvents, EventSelection, EventView
    from app.services.webhooks.events import WebhookEvents

commands = typer.Typer(
    name="webhooks", no_args_is_help=True, help="Inbound webhooks: their events, replay, figures, the mapping."
)

Source = Annotated[str | None, typer.Option(help="Only events of this source.")]
Name = Annotated[str | None, typer.Option(help="Only events of this name.")]
Rule = Annotated[str | None, typer.Option(help="Only events that this rule decided.")]
Ids = Annotated[list[int] | None, typer.Argument(help="Numbers of events. Without them the options select.")]
OpenState = Annotated[
    list[EventState] | None, typer.Option("--state", help="quarantined or unhandled; repeatable. Default: both.")
]
Limit = Annotated[int, typer.Option(min=1, max=500, help="The most events to change, oldest first.")]
Event = Annotated[int, typer.Argument(help="The event's number, see `laneway webhooks list`.")]


@commands.command("list")
def listing(
    state: Annotated[list[EventState] | None, typer.Option(help="Only events in this state; repeatable.")] = None,
    source: Source = None,
    name: Name = None,
    rule: Rule = None,
    before: Annotated[int | None, typer.Option(help="Only events with a smaller number.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="The most events to show.")] = 50,
    as_json: Json = False,
) -> None:
    """List the events, newest first; without an option those of every state."""
    from app.db.queries.webhooks import EventFilter

    which = EventFilter(states=tuple(state or ()), source=source, name=name, rule=rule)
    page = _events().page(which, before=before, limit=limit)
    if as_json:
        return print_json([event.model_dump(mode="json") for event in page.events])
    out.print(_table(page.events) if page.events else "None.")
    return None


@commands.command()
def show(id: Event, as_json: Json = False) -> None:
    """Show one event: its state and reason, the fields that could not be read, and its content."""
    import json

    found = _events().show(id)
    if as_json:
        return print_json(found.model_dump(mode="json"))
    from laneway.cli import views

    table = Fields()
    for name, value in found.model_dump(exclude_none=True, exclude={"body", "data", "problems"}).items():
        table.add(name, views.field_value(value))
    out.print(table)
    for problem in found.problems:
        out.print(f"not read: {problem}")
    out.print(json.dumps(found.body, indent=2, ensure_ascii=False))
    return None


@commands.command()
def stats(as_json: Json = False) -> None:
    """Count the events by source, name and state."""
    figures = _events().statistics()
    if as_json:
        return print_json(figures.model_dump(mode="json"))
    out.print(", ".join(f"{number} {state.value}" for state, number in figures.events.items()))
    if waiting := figures.deliveries["queued"]:
        out.print(f"{waiting} deliveries wait for their task")
    table = Grid(ident("source"), text("event"), "state", number("events"))
    for figure in figures.by_name:
        table.add(figure.source, figure.name or "(no name)", figure.state.value, figure.count)
    out.print(table)
    return None


@commands.command()
def replay(
    ids: Ids = None,
    state: OpenState = None,
    source: Source = None,
    name: Name = None,
    rule: Rule = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Decide again, by the mapping in force, what follows from events without a task. Nothing runs twice."""
    selection = _selection(ids, state, source=source, name=name, rule=rule, limit=limit)
    events = _events()
    replayed = [events.replay(id) for id in ids] if ids else [events.replay_many(selection)]
    still = sum(number for result in replayed for state, number in result.states.items() if state in OPEN)
    total = sum(result.changed for result in replayed)
    _print_changed(replayed, f"{total} replayed, {total - still} of them have a task now.", as_json=as_json)
    if still:
        raise typer.Exit(1)


@commands.command()
def discard(
    ids: Ids = None,
    state: OpenState = None,
    source: Source = None,
    name: Name = None,
    rule: Rule = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Let nothing follow from events without a task. `replay ID` takes the decision back."""
    if not (ids or state or source or name or rule):
        raise typer.BadParameter("give numbers of events, or options that select them")
    selection = _selection(ids, state, source=source, name=name, rule=rule, limit=limit)
    events = _events()
    discarded = [events.discard(id) for id in ids] if ids else [events.discard_many(selection)]
    number = sum(result.states.get(EventState.DISCARDED, 0) for result in discarded)
    _print_changed(discarded, f"{number} discarded.", as_json=as_json)


@commands.command()
def mapping(as_json: Json = False) -> None:
    """Show the mapping in force. Exit code 1 if its file is not valid."""
    found = _events().mapping()
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        table = Grid(ident("rule"), text("source"), text("event"), text("when"), text("task"))
        for rule in found.rules:
            columns = (", ".join(part) for part in (rule.source, rule.event, rule.when))
            table.add(rule.name, *columns, rule.task)
        state = "valid" if found.valid else "not valid; the last valid mapping is in force"
        out.print(f"{found.file}: {state if found.in_force else 'not valid; events go to quarantine'}")
        out.print(table)
    if found.problem:
        say_error(found.problem)
        raise typer.Exit(1)


def _events() -> WebhookEvents:
    from app.services.container import Services

    return cast("Services", make_services()).webhook_events


def _selection(
    ids: list[int] | None, state: list[EventState] | None, *, limit: int, **filters: str | None
) -> EventSelection:
    if ids and (state or any(filters.values())):
        raise typer.BadParameter("give either numbers of events, or options that select them")
    if not set(state or ()) <= set(OPEN):
        raise typer.BadParameter("only quarantined and unhandled events can be selected", param_hint="--state")
    from app.schemas.webhook_event import EventSelection

    return EventSelection.model_validate({"states": state or list(OPEN), "limit": limit, **filters})


def _print_changed(changed: list[ChangedEvents], sentence: str, *, as_json: bool) -> None:
    if as_json:
        return print_json([result.model_dump(mode="json") for result in changed])
    out.print(sentence)
    if events := [event for result in changed for event in result.events]:
        out.print(_table(events))
    if any(result.next for result in changed):
        out.print("More events are selected: run it again.")
    return None


def _table(events: list[EventView]) -> Grid:
    table = Grid(
        ident("id"),
        text("source"),
        text("event"),
        text("event id"),
        "state",
        text("rule"),
        "received",
        text("task or reason"),
    )
    for event in events:
        table.add(
            event.id,
            event.source,
            event.name or "(no name)",
            event.event_id,
            event.state.value,
            event.rule,
            when(event.created_at),
            event.reason or event.task_id or "; ".join(event.problems),
        )
    return table
