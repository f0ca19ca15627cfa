"""Commands of the key ring: create, list, rotate, reencrypt, remove."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from laneway.cli.base import Json, make_services, out, print_json, read_settings
from laneway.cli.times import duration, local

if TYPE_CHECKING:
    from laneway.platform.operations.reencryption import Amounts, Reencryption
    from laneway.transport.key_ring import Key, KeyRing

commands = typer.Typer(
    name="keys",
    no_args_is_help=True,
    add_completion=False,
    help="Keys that sign messages and encrypt payloads: create, list, rotate and remove them.",
)

OVERLAP = 600.0
"""Seconds after which a new key becomes the current one. By then every process must have the new file."""


@commands.command()
def create(
    if_missing: Annotated[bool, typer.Option("--if-missing", help="Do nothing if the file is there.")] = False,
) -> None:
    """Make the file of the key ring (KEY_RING_FILE) with one new key. Copy it to all machines."""
    from laneway.transport.key_ring import create_ring

    path = ring_path()
    made = create_ring(path)
    if not made and not if_missing:
        raise typer.BadParameter(f"{path} exists already; `laneway keys rotate` adds a key.")
    out.print(f"{path}: {'made, with one key' if made else 'kept'}")


@commands.command("list")
def list_keys(as_json: Json = False) -> None:
    """List the keys of the ring, the latest first. Their secrets are not shown."""
    ring = _ring(ring_path())
    if as_json:
        return print_json([_data(key, ring) for key in ring.keys])
    for key in ring.keys:
        out.print(f"{key.id}  made {local(key.created_at)}  {_state(key, ring)}")
    return None


@commands.command()
def rotate(
    overlap: Annotated[
        float, duration("Time until the new key signs: by then every machine must have the file (0s, 10m, 1h).")
    ] = OVERLAP,
) -> None:
    """Add a key, which becomes the current one after the overlap. The older keys go on to verify and to decrypt."""
    path = ring_path()
    ring = _ring(path).rotated(overlap=timedelta(seconds=overlap))
    ring.write(path)
    out.print(f"{ring.keys[0].id} signs from {local(ring.keys[0].starts_at)}.")
    out.print("Copy the file to all machines until then. Running processes read it by themselves.")


@commands.command()
def reencrypt() -> None:
    """Encrypt what is stored with older keys again, with the current key. Then they can be removed.

    That is what the database, the storage of large payloads and Celery's result store hold. It may be interrupted: the
    next run continues. Messages of the broker, and the large payloads to which they refer, stay as they are until they
    are done.
    """
    ring_path()
    with out.status("Encrypting again") as status:
        done = _reencryption().run(lambda done: status.update(f"Encrypted again: {_amounts(done)}"))
    out.print(f"Encrypted again: {_amounts(done)}")


@commands.command()
def remove(
    id: Annotated[str, typer.Argument(help="The key's id.")],
    force: Annotated[bool, typer.Option("--force", help="Do not look for what is encrypted with it.")] = False,
) -> None:
    """Remove a key that is not the current one and with which nothing is encrypted.

    Messages that were signed with it become dead letters.
    """
    path = ring_path()
    rest = _ring(path).without(id)
    if not force:
        _check_unused(id)
    rest.write(path)
    out.print(f"{id}: removed")


def _check_unused(id: str) -> None:
    """Raise KeyInUse when something is encrypted with the key."""
    from laneway.platform.errors import PlatformError
    from laneway.transport.key_ring import KeyInUse

    try:
        with out.status(f"Looking for what is encrypted with {id}") as status:
            uses = _reencryption().uses(id, lambda found: status.update(f"Encrypted with {id}: {_amounts(found)}"))
    except PlatformError as error:
        problem = f"what is encrypted with it is not known ({str(error).rstrip('.')}); --force does not look for it"
        raise KeyInUse(id, problem) from error
    if uses.rows:
        raise KeyInUse(id, f"rows that are encrypted with it: {uses.rows}; run `laneway keys reencrypt` first")
    if uses.messages:
        problem = f"messages of the broker that are encrypted with it: {uses.messages}; wait until they are done"
        raise KeyInUse(id, f"{problem}, and requeue or discard those that are dead letters")
    if uses.payloads:
        problem = f"large payloads in the storage that are encrypted with it: {uses.payloads}"
        raise KeyInUse(
            id,
            f"{problem}; wait until their tasks are done, requeue or discard those that are dead letters, and run "
            "`laneway keys reencrypt`",
        )
    if uses.results:
        problem = f"results in Celery's store that are encrypted with it: {uses.results}"
        raise KeyInUse(id, f"{problem}; run `laneway keys reencrypt`, or wait until they expire")


def _amounts(amounts: Amounts) -> str:
    return f"{amounts.rows} rows, {amounts.payloads} large payloads, {amounts.results} results"


def _reencryption() -> Reencryption:
    from laneway.platform.operations.reencryption import Reencryption

    settings, services = read_settings(), make_services()
    return Reencryption(services.database, services.broker, services.results, settings.tasks)


def ring_path() -> Path:
    """The file of the settings."""
    path = read_settings().keys.ring_path
    if path is None:
        raise typer.BadParameter("KEY_RING_FILE is not set: set it to the path of the file, such as data/keys.json.")
    return path


def _ring(path: Path) -> KeyRing:
    from laneway.transport.key_ring import read_ring

    return read_ring(path)


def _state(key: Key, ring: KeyRing) -> str:
    if key is ring.current():
        return "current: signs, encrypts"
    if key.starts_at > datetime.now(UTC):
        return f"signs from {local(key.starts_at)}"
    return "older: verifies, decrypts"


def _data(key: Key, ring: KeyRing) -> dict[str, Any]:
    return {
        "id": key.id,
        "created_at": key.created_at.isoformat(),
        "starts_at": key.starts_at.isoformat(),
        "current": key is ring.current(),
    }
