"""What a document reaches that has taken over its reader."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.core.settings import ROOT
from app.services.documents.extraction.reading import Limits
from app.services.documents.extraction.runner import ExtractionRefused, extract
from laneway.platform import children
from laneway.platform.settings import ChildSettings
from tests.fixtures import files
from tests.fixtures.hostile_child import WAYS_OUT, successes, surroundings

LIMITS = Limits(file_bytes=10**7, text_bytes=10**6, pages=100, seconds=20, memory_bytes=1 << 30)
NOBODY = pwd.getpwnam("nobody").pw_uid


def test_a_reader_that_was_taken_over_gets_nowhere(tmp_path: Path) -> None:
    ids = ChildSettings().ids() or (None, None)
    wanted = {"user": ids[0], "group": ids[1], "required": True}
    with surroundings(tmp_path) as around:
        takeover = f"""
from app.services.documents.extraction import __main__ as reader
reader._give_up_rights({wanted!r}, reader.Limits(**{asdict(LIMITS)!r}))
{around.program}
import os
for attempt in (lambda: os.execv("/bin/true", ["true"]), lambda: open("/etc/passwd", "a"), lambda: os.listdir("/proc")):
    try:
        attempt()
        print("done", flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
os._exit(0)
"""
        confined, found, *others = _run(takeover)

    assert json.loads(confined)["open"] == []
    assert successes(json.loads(found)) == set()
    assert json.loads(found)["fork"] == "PermissionError"
    assert json.loads(found)["user"] == (os.geteuid() or NOBODY)
    assert "done" not in others and len(others) == 3
    assert set(json.loads(found)) >= WAYS_OUT


def _run(program: str) -> list[str]:
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        return reader.stdout.read().splitlines()


def test_what_the_kernel_did_not_give_is_logged_once() -> None:
    with capture_logs() as logs:
        for _ in range(2):
            children.log_outcome("a child of this test", {"seccomp": "not there"}, ["the network"])
            children.log_outcome("another child of this test", {"file tree": "not permitted"}, [])

    assert [(entry["log_level"], entry.get("open")) for entry in logs] == [("warning", ["the network"]), ("info", None)]
    assert logs[0]["missing"] == "seccomp: not there"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_reader_that_cannot_be_confined_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChildSettings, "ids", lambda _self: (2**32, 1))
    with tempfile.TemporaryFile() as file:
        file.write(files.pdf("Hello"))
        with pytest.raises(ExtractionRefused, match="was not read, because its reader could not be confined"):
            extract(
                file,
                name="a.pdf",
                claimed=None,
                limits=LIMITS,
                folder=Path(tempfile.gettempdir()),
                report=lambda _percent, _message: None,
                children=ChildSettings(),
            )
