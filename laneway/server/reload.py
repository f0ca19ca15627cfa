"""`laneway up --reload`: the processes that run the project's code restart when the code changes.

1. `watchfiles` reports changed Python files, workflow definitions, pyproject.toml and laneway.toml.
2. A process of its own imports the changed project (`laneway.server.project_check`). If that fails, the running
   processes go on with the old code, and the terminal shows the file, the line and the mistake.
3. Workers, Beat and the API restart. Running tasks get `supervisor.RELOAD_SECONDS` to finish; then they return to their
   queues, and run again with the new code.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from watchfiles import Change, DefaultFilter, awatch  # pyright: ignore[reportUnknownVariableType] - anyio or trio

from laneway.platform.application import application
from laneway.platform.errors import PlatformError
from laneway.platform.queues import WorkerGroup, declare_queues
from laneway.platform.settings import Settings, project
from laneway.platform.settings.base import LANEWAY_FILE, PROJECT_FILE
from laneway.server.processes import ManagedProcess, processes
from laneway.server.terminal import Terminal

DEBOUNCE: Final = 300
"""Milliseconds to wait for further changes, such as those of an editor that saves several files."""
IGNORED: Final = (*DefaultFilter.ignore_dirs, "venv", "env", "site-packages", "build", "dist")
TESTS: Final = "tests"
"""The folder of the project whose files no process imports."""
CHECK_SECONDS: Final = 60

Restart = Callable[[Sequence[ManagedProcess]], None]


class CodeFilter(DefaultFilter):
    """Lets the files pass that the processes of a project read at their start."""

    def __init__(self, folder: Path, *, data: Path, workflows: Path | None) -> None:
        super().__init__(ignore_dirs=IGNORED, ignore_paths=[data, folder / TESTS])
        self._files = {folder / PROJECT_FILE, folder / LANEWAY_FILE}
        self._workflows = workflows

    def __call__(self, change: Change, path: str) -> bool:
        file = Path(path)
        is_code = file.suffix == ".py" or file in self._files
        is_workflow = file.suffix == ".yaml" and file.parent == self._workflows
        return (is_code or is_workflow) and super().__call__(change, path)


class CodeWatcher:
    """Restarts processes when the code of the project changes."""

    def __init__(self, settings: Settings, terminal: Terminal) -> None:
        self._settings, self._terminal = settings, terminal

    async def run(self, restart: Restart) -> None:
        """Watch until cancelled; `restart` gets the new table of processes. Say so if the folder cannot be watched."""
        folder = project.path
        filter = CodeFilter(folder, data=self._settings.storage.folder, workflows=application().workflow_folder)
        self._terminal.say(f"watching {folder}: a change of the code restarts workers, Beat and API")
        try:
            async for changes in awatch(folder, watch_filter=filter, debounce=DEBOUNCE, raise_interrupt=False):
                await self._on_change(sorted({str(Path(path).relative_to(folder)) for _, path in changes}), restart)
        except OSError as error:
            self._terminal.say(
                f"{folder} is not watched any more, so a change restarts nothing: {error} "
                "(WATCHFILES_FORCE_POLLING=true needs no watches of the system)"
            )

    async def _on_change(self, files: Sequence[str], restart: Restart) -> None:
        shown = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
        ok, said = await _check_project()
        if not ok:
            self._refuse(shown, said)
            return
        try:
            table = self._new_processes(json.loads(said.splitlines()[-1]))
        except PlatformError as error:
            self._refuse(shown, str(error))
            return
        self._terminal.say(f"{shown} changed: {', '.join(process.name for process in table)} restart")
        restart(table)

    def _refuse(self, changed: str, reason: str) -> None:
        for line in f"{changed} changed, but the old code goes on running: {reason}".splitlines():
            self._terminal.say(line)

    def _new_processes(self, declared: dict[str, Any]) -> list[ManagedProcess]:
        """The processes that run the project's code, as the changed project declares them."""
        for problem in declared["broken"]:
            self._terminal.say(f"not everything works: {problem}")
        application.cache_clear()
        groups = [WorkerGroup(each["name"], tuple(each["queues"]), each["concurrency"]) for each in declared["workers"]]
        declare_queues(declared["queues"], workers=groups)
        return [process for process in processes(self._settings, workers=groups) if process.runs_code]


async def _check_project() -> tuple[bool, str]:
    """Whether the project can run, and what it declares or what is wrong."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "laneway.server.project_check",
        cwd=project.path,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            out, err = await child.communicate()
    except TimeoutError:
        return False, f"importing the project took longer than {CHECK_SECONDS} s"
    finally:
        if child.returncode is None:
            child.kill()
    return child.returncode == 0, (out if child.returncode == 0 else err).decode("utf-8", "replace").strip()
