"""The memory of a process and of all below it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from laneway.platform.operations import process_memory
from laneway.platform.operations.process_memory import memory_of_tree

GRANDCHILD = "import sys; ballast = bytearray(b'x' * 60_000_000); print('ready', flush=True); sys.stdin.read()"
CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


def test_the_processes_that_a_child_has_started_count_too() -> None:
    before = memory_of_tree(os.getpid())
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, GRANDCHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        during = memory_of_tree(os.getpid())
        child.communicate()

    assert before is not None and during is not None
    assert 60_000_000 < during - before < 250_000_000


def test_a_thread_that_ends_meanwhile_hides_no_children_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`/proc` as it is when a thread ends between the listing and the look into it."""
    for process, thread, children in (("1", "1", "2 3 "), ("1", "9", None), ("2", "2", ""), ("3", "3", "")):
        folder = tmp_path / process / "task" / thread
        folder.mkdir(parents=True)
        (tmp_path / process / "statm").write_text("9 5 0")
        if children is not None:
            (folder / "children").write_text(children)
    monkeypatch.setattr(process_memory, "PROCESSES", tmp_path)

    assert memory_of_tree(1) == 3 * 5 * os.sysconf("SC_PAGE_SIZE")


def test_a_process_that_is_not_there_has_no_figure() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert memory_of_tree(ended.pid) is None
