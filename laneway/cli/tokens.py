"""`laneway tokens`: the tokens with which programs use the API."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from laneway._printable import printable
from laneway.cli.base import Json, make_services, out, print_json, print_models
from laneway.cli.times import duration

if TYPE_CHECKING:
    from laneway.platform.access.tokens import NewToken

DAY = 86_400.0
commands = typer.Typer(
    name="tokens",
    no_args_is_help=True,
    add_completion=False,
    help="Tokens of the API: create, list, rotate and revoke them.",
)

Name = Annotated[str, typer.Argument(help="The name of the token, such as the program that uses it.")]
Expires = Annotated[float | None, duration("It is valid for so long: 30d, 52w.")]


@commands.command()
def create(
    name: Name,
    scope: Annotated[
        list[str],
        typer.Option(help="What it may do: tasks:submit, tasks:submit:NAME, tasks:read, … (docs); repeatable."),
    ],
    queue: Annotated[list[str] | None, typer.Option(help="Only in this queue; repeatable.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only tasks of this name; repeatable.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only tasks of this tenant, whose ids it puts apart.")] = None,
    expires: Expires = 90 * DAY,
    never: Annotated[bool, typer.Option("--never-expires", help="It is valid until it is revoked.")] = False,
    as_json: Json = False,
) -> None:
    """Make a token, and print it. Nobody can print it again.

    `laneway tokens create shop --scope tasks:submit --scope tasks:read`
    """
    from laneway.platform.access.token_rights import TokenRights

    rights = TokenRights(
        scopes=frozenset(scope),
        queues=frozenset(queue) if queue else None,
        names=frozenset(task) if task else None,
        tenant=tenant,
    )
    valid_for = None if never else timedelta(seconds=expires or 0)
    _print_new(make_services().tokens.create(name, rights, expires=valid_for), as_json=as_json)


@commands.command("list")
def listing(as_json: Json = False) -> None:
    """List the tokens: what they may do, until when, and when they were last used."""
    from laneway.cli.token_views import token_table
    from laneway.platform.access.token_views import token_view

    found = [token_view(row) for row in make_services().tokens.listing()]
    if as_json:
        return print_models(found)
    return out.print(token_table(found) if found else "None.")


@commands.command()
def rotate(
    name: Name,
    overlap: Annotated[float, duration("The token before it is valid for so long, too: 10m, 24h.")] = DAY,
    expires: Annotated[float | None, duration("It is valid for so long. Default: as long as the one before.")] = None,
    as_json: Json = False,
) -> None:
    """Make a new token in the place of one, and print it. The one before stays valid for the overlap."""
    made = make_services().tokens.rotate(
        name,
        overlap=timedelta(seconds=overlap),
        expires=None if expires is None else timedelta(seconds=expires),
    )
    _print_new(made, as_json=as_json)


@commands.command()
def revoke(name: Name, as_json: Json = False) -> None:
    """End a token now. Running processes notice it within 2 seconds."""
    from laneway.platform.access.token_views import token_view

    row = make_services().tokens.revoke(name)
    if as_json:
        return print_json(token_view(row).model_dump(mode="json"))
    return out.print(f"Revoked: {row.name}")


def _print_new(made: NewToken, *, as_json: bool) -> None:
    """Print the token itself on standard output, and what people should know on standard error."""
    from laneway.cli.token_views import remark
    from laneway.platform.access.token_views import new_token_view

    if as_json:
        return print_json(new_token_view(made).model_dump(mode="json"))
    typer.echo(printable(made.token))
    return typer.echo(printable(remark(made.row)), err=True)
