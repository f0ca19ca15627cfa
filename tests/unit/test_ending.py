"""Tests leave no process behind, also where the one that they started is gone before its children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.fixtures.ending import end_group
from tests.fixtures.waiting import wait_until

PARENT = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {0!r}]).pid, flush=True); {0}"
PAUSE = "import signal; signal.pause()"


@pytest.mark.parametrize("killed_before", [True, False])
def test_the_children_of_a_process_end_with_it_and_after_it(killed_before: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT.format(PAUSE)], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        if killed_before:
            os.kill(process.pid, signal.SIGKILL)
            process.wait(10)
            assert child.is_running()
        end_group(process)

        wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, seconds=10)
        end_group(process)  # a second time does nothing
