"""Commands of the key ring: create, list, rotate, remove. They work on the file alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from laneway.cli.base import Json, out, print_json, read_settings
from laneway.cli.times import duration, local

if TYPE_CHECKING:
    from laneway.transport.key_ring import Key, KeyRing

commands = typer.Typer(
    name="keys",
    no_args_is_help=True,
    add_completion=False,
    help="Keys that sign messages: create, list, rotate and remove them.",
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
    """Add a key, which becomes the current one after the overlap. The older keys go on to verify."""
    path = ring_path()
    ring = _ring(path).rotated(overlap=timedelta(seconds=overlap))
    ring.write(path)
    out.print(f"{ring.keys[0].id} signs from {local(ring.keys[0].starts_at)}.")
    out.print("Copy the file to all machines until then. Running processes read it by themselves.")


@commands.command()
def remove(id: Annotated[str, typer.Argument(help="The key's id.")]) -> None:
    """Remove a key that is not the current one.

    Messages that were signed with it become dead letters.
    """
    path = ring_path()
    _ring(path).without(id).write(path)
    out.print(f"{id}: removed")


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
        return "current: signs"
    if key.starts_at > datetime.now(UTC):
        return f"signs from {local(key.starts_at)}"
    return "older: verifies"


def _data(key: Key, ring: KeyRing) -> dict[str, Any]:
    return {
        "id": key.id,
        "created_at": key.created_at.isoformat(),
        "starts_at": key.starts_at.isoformat(),
        "current": key is ring.current(),
    }
