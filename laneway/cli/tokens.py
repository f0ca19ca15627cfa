"""`laneway tokens`: the tokens with which programs use the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from laneway._printable import printable
from laneway.cli.base import Json, out, print_json, print_models, source, valid
from laneway.cli.times import duration

if TYPE_CHECKING:
    from laneway.schemas.token import NewTokenView

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
    platform = source(as_json=as_json)
    from laneway.schemas.token import TokenRequest

    request = valid(
        TokenRequest,
        name=name,
        scopes=scope,
        queues=queue or None,
        names=task or None,
        tenant=tenant,
        expires_seconds=None if never else expires or 0,
    )
    _print_new(platform.access.create_token(request), as_json=as_json)


@commands.command("list")
def listing(as_json: Json = False) -> None:
    """List the tokens: what they may do, until when, and when they were last used."""
    found = source(as_json=as_json).access.tokens()
    if as_json:
        return print_models(found)
    from laneway.cli.token_views import token_table

    return out.print(token_table(found) if found else "None.")


@commands.command()
def rotate(
    name: Name,
    overlap: Annotated[float, duration("The token before it is valid for so long, too: 10m, 24h.")] = DAY,
    expires: Annotated[float | None, duration("It is valid for so long. Default: as long as the one before.")] = None,
    as_json: Json = False,
) -> None:
    """Make a new token in the place of one, and print it. The one before stays valid for the overlap."""
    platform = source(as_json=as_json)
    from laneway.schemas.token import TokenRotation

    rotation = valid(TokenRotation, overlap_seconds=overlap, expires_seconds=expires)
    _print_new(platform.access.rotate_token(name, rotation), as_json=as_json)


@commands.command()
def revoke(name: Name, as_json: Json = False) -> None:
    """End a token now. Running processes notice it within 2 seconds."""
    revoked = source(as_json=as_json).access.revoke_token(name)
    if as_json:
        return print_json(revoked.model_dump(mode="json"))
    return out.print(f"Revoked: {revoked.name}")


def _print_new(made: NewTokenView, *, as_json: bool) -> None:
    """Print the token itself on standard output, and what people should know on standard error."""
    if as_json:
        return print_json(made.model_dump(mode="json"))
    from laneway.cli.token_views import remark

    typer.echo(printable(made.token))
    return typer.echo(printable(remark(made)), err=True)
