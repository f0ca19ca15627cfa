"""Commands that only read do not import the application's tasks, unless events must be recorded first."""

from __future__ import annotations

import subprocess
import sys

from app.core.settings import ROOT
from laneway.platform.errors import UpstreamRefused
from laneway.platform.execution.outcomes import Raised
from tests.fixtures.shell import Shell

NOT_NEEDED = ("alembic", "app.services", "app.tasks", "fastapi")
PROGRAM = """
import sys
from laneway.cli.main import main
for words in sys.argv[1:]:
    sys.argv = ["laneway", *words.split()]
    try:
        main()
    except SystemExit as end:
        code = end.code
    print(code or 0, *(name for name in sys.modules if name.startswith({packages!r})), file=sys.stderr)
"""


def imported(laneway: Shell, *commands: str) -> list[str]:
    """For each command of one process the exit code, and the modules that are not needed and that are imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(packages=NOT_NEEDED), *commands],
        env=laneway.site.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stderr.splitlines()[-len(commands) :]


def test_a_command_that_reads_imports_neither_tasks_nor_services(laneway: Shell) -> None:
    id = laneway.site.message("c-1")
    laneway("status", id)  # records the events

    assert imported(laneway, "tasks list", f"tasks show {id}", "workers", "dead list", "queues list") == ["0"] * 5


def test_events_that_are_not_recorded_yet_are_recorded_with_the_tasks(laneway: Shell) -> None:
    id = laneway.site.message("c-1")
    laneway.platform.work(outcome=Raised(UpstreamRefused("model", "no")))
    found = imported(laneway, f"status {id}")[0].split()

    assert found[0] == "0" and "app.tasks.conversation_tasks" in found
    assert laneway.site.services.recorder.unread() == {}
    assert laneway("status", id, "--json").json()["status"] == "failed"
