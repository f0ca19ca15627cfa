"""The project in which snippets run: a copy of the application with what the pages add to it, and its processes."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from app.core.settings import ROOT
from app.development import environment as development_environment
from tests.docs import page_python
from tests.docs.blocks import Block
from tests.docs.commands import joined_lines
from tests.fixtures.ending import end_group
from tests.fixtures.forked import BIN, ForkedProcess, Process, start_process
from tests.fixtures.site import Site
from tests.fixtures.valkey import free_port
from tests.fixtures.waiting import wait_until

COPIED: Final = ("app", "examples", "beat_schedule.py", "flowerconfig.py", "pyproject.toml")
LINKED: Final = ("laneway", "benchmarks", "docs", ".venv")
SECONDS: Final = 150
"""How long one command may take on a busy machine."""
PREAMBLE: Final = 'set -euo pipefail; curl() { command curl --fail-with-body --show-error "$@"; }\n'
"""An answer that is an error ends a block of commands."""
SHELL_SIGNS: Final = set("|&;<>$`*?(){}~")
TUPLE_OF_ONE: Final = re.compile(r"\((.*),\)")
"""How a page writes one element of a tuple, because Ruff formats the Python of pages: `("app.tasks.new",)`."""
SECRETS: Final = '{"shop": "a-secret-of-the-shop"}'


class DocsProject:
    """A platform whose application is the copied one; its pages share it."""

    def __init__(self, site: Site) -> None:
        self.site, self.folder = site, site.folder / "project"
        self.folder.mkdir()
        for name in COPIED:
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, self.folder / name)
        for name in LINKED:
            (self.folder / name).symlink_to(ROOT / name)
        (site.folder / "data").mkdir(exist_ok=True)
        (self.folder / "data").symlink_to(site.folder / "data")
        self._started: list[Process] = []
        self._receiver_port = free_port()
        self._python: subprocess.Popen[str] | None = None
        self.environment = site.environment | {
            **development_environment(site.settings),
            "WEBHOOK_SECRETS": SECRETS,
            "PYTHONPATH": str(self.folder),
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }

    def write(self, block: Block) -> None:
        """Make the block a part of the project, if its notes say so."""
        for note, value in block.notes.items():
            kind, _, rest = note.partition(" ")
            if kind == "file":
                path = self.folder / value
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, "utf-8")
            elif kind in ("add", "replace"):
                self._edit(self.folder / rest.split()[1], value, block, keep=kind == "add")

    def _edit(self, path: Path, text: str, block: Block, *, keep: bool) -> None:
        lines = path.read_text("utf-8").splitlines()
        at = next((number for number, line in enumerate(lines) if text in line), None)
        assert at is not None, f"{block}: {path.relative_to(self.folder)} has no line with {text!r}"
        indentation = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
        element = TUPLE_OF_ONE.fullmatch(block.text.strip())
        new = f"{element[1]}," if element else block.text
        added = [f"{indentation}{line}" for line in new.splitlines()]
        lines[at : at + 1] = [lines[at], *added] if keep else added
        path.write_text("\n".join(lines) + "\n", "utf-8")

    def start(self) -> None:
        """Start the API, and a worker that serves every queue."""
        self.begin("api", ["uvicorn", "app.main:app", "--port", str(self.site.api_port), "--no-access-log"])
        worker = self.begin("worker", ["laneway", "worker", "--name", "docs", "-c", "2"])
        wait_until(self.site.api_answers, seconds=SECONDS)
        self.until(worker, "ready.")

    def run_elsewhere(self, folder: Path, *words: str) -> str:
        """Run a command in a project of its own, on databases of its own of the same broker; returns its output."""
        own = {"DATA_DIR": str(folder / "data"), "REDIS_DB_BROKER": "2", "REDIS_DB_BACKEND": "3"}
        path = {"PYTHONPATH": f"{folder}:{self.folder}"}
        done = subprocess.run(
            [str(BIN / words[0]), *words[1:]],
            cwd=folder,
            env=self.environment | own | path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        assert done.returncode == 0, f"$ {shlex.join(words)}\n{done.stdout}\nexit code {done.returncode}"
        return done.stdout

    def begin(self, name: str, argv: Sequence[str]) -> tuple[Process, Path]:
        """Start a program of the virtual environment; returns it and the file with its output."""
        log = self.site.folder / f"{name}-{len(self._started)}.log"
        with log.open("wb") as out:
            start = ForkedProcess if argv[0] == "laneway" else start_process
            process = start(argv, folder=self.folder, environment=self.environment, output=out, platform=True)
        self._started.append(process)
        return process, log

    def until(self, started: tuple[Process, Path], text: str) -> None:
        """Wait until a process has written a text."""
        process, log = started

        def is_written() -> bool:
            output = log.read_text("utf-8", "replace")
            assert text in output or process.poll() is None, f"it ended before it wrote {text!r}:\n{output}"
            return text in output

        wait_until(is_written, seconds=SECONDS)

    def localized(self, text: str) -> str:
        """The text with the addresses of this platform in place of the usual ones."""
        for usual, own in ((8000, self.site.api_port), (6379, self.site.valkey.port), (5555, self.site.flower_port)):
            for host in ("localhost", "127.0.0.1"):
                text = text.replace(f"{host}:{usual}", f"127.0.0.1:{own}")
        return re.sub(r"\b9000\b", str(self._receiver_port), text)

    def run_commands(self, block: Block) -> None:
        """Run the commands of a block; each must end as its notes say."""
        text, expected = self.localized(block.text), int(block.notes.get("exit code", 0))
        lines = joined_lines(text)
        if text_to_come := block.notes.get("until") or block.notes.get("runs on after"):
            assert len(lines) == 1, "only one command, which runs until it has written something"
            return self._run_until(lines[0], text_to_come, stop="until" in block.notes)
        for is_plain, some in groupby(lines, lambda line: _is_plain(line) and "export " not in text):
            group = list(some)
            code = expected if group[-1] is lines[-1] else 0
            if is_plain:
                for line in group:
                    self._run_plain(line, code if line is group[-1] else 0)
            else:
                self._run_in_shell("\n".join(group), code)
        return None

    def _run_in_shell(self, text: str, expected: int) -> None:
        done = subprocess.run(
            ["bash", "-c", PREAMBLE + text],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        assert done.returncode == expected, f"$ {text}\n{done.stdout}\nexit code {done.returncode}"

    def _run_plain(self, line: str, expected: int) -> None:
        process, log = self.begin("command", shlex.split(line.replace("\\\n", ""), comments=True))
        code = process.wait(SECONDS)
        assert code == expected, f"$ {line}\n{log.read_text('utf-8', 'replace')}\nexit code {code}"

    def _run_until(self, line: str, text: str, *, stop: bool) -> None:
        plain = _is_plain(line)
        argv = shlex.split(line, comments=True) if plain else ["/bin/bash", "-c", PREAMBLE + line]
        process, log = started = self.begin("process", argv)
        self.until(started, text)
        if not stop:
            return
        process.terminate()
        code = process.wait(SECONDS)
        assert code == 0, f"$ {line}\n{log.read_text('utf-8', 'replace')}\nexit code {code}"

    def run_python(self, block: Block) -> None:
        """Run a block of Python after those above it on its page, in one namespace."""
        process = self._python = self._python or self._start_python()
        assert process.stdin
        assert process.stdout
        is_new = "a new program" in block.notes
        request = {"code": self.localized(block.text), "page": block.page, "line": block.line, "new": is_new}
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline() or '{"problem": "Python has ended"}')
        assert not answer["problem"], answer["problem"]

    def _start_python(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, page_python.__file__],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End all processes."""
        if self._python:
            self._python.communicate()
        for process in reversed(self._started):
            end_group(process)


def _is_plain(line: str) -> bool:
    """Whether a line is one command of Laneway that needs no shell."""
    words = shlex.split(line, comments=True)
    unquoted = re.sub(r"'[^']*'", "", line).partition("#")[0]
    return words[0] in ("laneway", "celery", "uvicorn") and not SHELL_SIGNS.intersection(unquoted)
