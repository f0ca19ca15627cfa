"""What the peers run with: Python, Node and Ruby, each with the peers' own packages, none of them the project's.

The packages of `requirements.txt` and `package.json` are installed into `build/` when a peer needs them for the first
time, and again when those files change.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
DRIVERS = HERE / "drivers"
VENV, NODE = ROOT / "build" / "bench-venv", ROOT / "build" / "bench-node"
INSTALL_SECONDS = 600


class NotFound(Exception):
    """What a peer needs is not on this machine, and cannot be installed."""


@dataclass(frozen=True)
class Runtime:
    """An interpreter, and what it needs in its environment."""

    program: str
    environment: dict[str, str] = field(default_factory=dict[str, str])


def own() -> Runtime:
    """The project's own Python, with the library of this folder."""
    return Runtime(sys.executable, {"PYTHONPATH": str(ROOT)})


@cache
def python() -> Runtime:
    """The Python of the peers; it is installed first. Raises NotFound."""
    wanted = HERE / "requirements.txt"
    program = VENV / "bin" / "python"

    def install() -> None:
        _run([sys.executable, "-m", "venv", "--clear", str(VENV)])
        _run([str(program), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(wanted)])

    _up_to_date(VENV, wanted, install)
    return Runtime(str(program))


@cache
def node() -> Runtime:
    """Node with the peers' packages, which are installed first. Raises NotFound."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if not program or not npm:
        raise NotFound("Node and npm are not on PATH")
    wanted = HERE / "package.json"

    def install() -> None:
        shutil.rmtree(NODE, ignore_errors=True)
        NODE.mkdir(parents=True)
        shutil.copyfile(wanted, NODE / wanted.name)
        quiet = ("--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        _run([npm, "install", *quiet, "--prefix", str(NODE)])

    _up_to_date(NODE, wanted, install)
    return Runtime(program, {"NODE_PATH": str(NODE / "node_modules")})


@cache
def ruby() -> Runtime:
    """Ruby with Debian's Sidekiq. Raises NotFound."""
    program = shutil.which("ruby")
    if not program or not shutil.which("sidekiq"):
        raise NotFound("Ruby and Sidekiq are not on PATH (Debian: apt install ruby-sidekiq)")
    return Runtime(program)


RUNTIMES: dict[str, Callable[[], Runtime]] = {"own": own, "python": python, "node": node, "ruby": ruby}


def _up_to_date(folder: Path, wanted: Path, install: Callable[[], None]) -> None:
    """Install unless the folder was made from this file as it is now; a mark says so, and is written last."""
    mark = folder / ".made-from"
    if mark.exists() and mark.read_text("utf-8") == wanted.read_text("utf-8"):
        return
    print(f"installing {wanted.relative_to(ROOT)} into {folder.relative_to(ROOT)}", file=sys.stderr, flush=True)
    install()
    mark.write_text(wanted.read_text("utf-8"), "utf-8")


def _run(argv: list[str]) -> None:
    """Run an installer. Raises NotFound with its last words."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(  # noqa: S603
            argv, cwd=HERE, env=environment, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotFound(f"{Path(argv[0]).name} failed: {error}") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise NotFound(f"{Path(argv[0]).name} failed: {lines[-1][:200]}")
