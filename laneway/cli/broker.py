"""`laneway broker`: run the embedded Valkey; give each kind of process a user of its own on a broker."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from laneway.cli.base import Json, make_services, out, print_json, read_settings

commands = typer.Typer(name="broker", invoke_without_command=True, add_completion=False)


@commands.callback()
def broker(context: typer.Context) -> None:
    """Run the embedded Valkey, or give a broker its users (`broker users`).

    Without a command it runs the embedded Valkey in the foreground.
    """
    if context.invoked_subcommand is None:
        from laneway.server.valkey import exec_broker

        exec_broker(read_settings())


@commands.command()
def users(
    revoke_previous: Annotated[
        bool,
        typer.Option("--revoke-previous", help="Give no new passwords; remove all passwords but those in the files."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Create ACL users for API, workers, Beat, Flower and command line, each with the rights that it needs.

    The login in the settings must be allowed to change users. Called again, it gives new passwords; the previous ones
    stay valid until --revoke-previous.
    """
    from laneway.server.broker_users import make_users

    services = make_services()
    services.audit_log.record("broker.users", ("broker", "users"), after={"previous_revoked": revoke_previous})
    made = make_users(services.settings, revoke_previous=revoke_previous)
    if as_json:
        return print_json(asdict(made))
    for user in made.users:
        out.print(f"{user.name}: {user.file}")
    out.print("Start each process with the settings in its file: its addresses of broker and results.")
    if not made.saved:
        out.print("The server has no file for its users: it forgets them when it restarts. Set `aclfile`.")
    return None
