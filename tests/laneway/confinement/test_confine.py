"""Confined processes that try to get out, with all that the kernel has, and with less."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from laneway.confinement.kernel import MACHINE
from tests.fixtures.hostile_child import Surroundings, successes, surroundings

ROOT = Path(__file__).resolve().parents[3]
NOBODY = pwd.getpwnam("nobody").pw_uid
UNSHARE = {"x86_64": 272, "aarch64": 97}
SECCOMP = {"x86_64": 317, "aarch64": 277}
LANDLOCK = 444

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or MACHINE not in UNSHARE, reason="confinement needs Linux on x86_64 or aarch64"
)

START = """
import errno, json, os, struct, ctypes, sys, resource
sys.path.insert(0, {root!r})
from laneway.confinement import confine as c, kernel, rights, seccomp
without, wanted = json.loads({given!r})
if without:
    # A filter stands for a kernel that lacks these calls.
    steps = [seccomp._step(seccomp.LOAD, seccomp.NUMBER)]
    for number in without:
        steps += seccomp._refuse_call(number, errno.EPERM)
    program = b"".join([*steps, seccomp._step(seccomp.RETURN, seccomp.ALLOW)])
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    rights.forbid_new_privileges()
    kernel.syscall({seccomp}, "seccomp", 1, 0, header)
try:
    outcome = c.confine(c.Confinement(**{{"readable": c.PYTHON, "writable": (".",), **wanted}}))
except c.NotConfined as error:
    sys.exit(f"not confined: {{error}}")
print(json.dumps([outcome.missing, outcome.open]), flush=True)
"""


@pytest.fixture
def around(tmp_path: Path) -> Iterator[Surroundings]:
    """What there is to reach."""
    with surroundings(tmp_path) as made:
        yield made


def run(
    program: str,
    folder: Path,
    *,
    without: tuple[int, ...] = (),
    user: int | None = None,
    other_user: bool = True,
    **wanted: Any,
) -> subprocess.CompletedProcess[str]:
    """Run a program as a confined process in an own folder.

    `user`: who starts it, if not this process's user. `other_user`: whether root becomes another one.
    """
    folder.mkdir()
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
        if user is None and other_user:
            wanted = {"user": NOBODY, "group": NOBODY, **wanted}
    start = START.format(root=str(ROOT), given=json.dumps([without, wanted]), seccomp=SECCOMP[MACHINE])
    python = [sys.executable, "-I", "-S"] if user is None else ["/usr/bin/python3", "-I", "-S"]
    return subprocess.run(
        [*python, "-c", start + program], cwd=folder, user=user, capture_output=True, text=True, timeout=60, check=False
    )


def outcome(ended: subprocess.CompletedProcess[str]) -> tuple[dict[str, str], list[str], dict[str, Any]]:
    """What was missing, what is open, and what the hostile program found."""
    assert not ended.returncode, ended.stderr
    (missing, still_open), found = (json.loads(line) for line in ended.stdout.splitlines())
    return missing, still_open, found


def test_a_confined_process_gets_nowhere(around: Surroundings, tmp_path: Path) -> None:
    missing, still_open, found = outcome(run(around.program, tmp_path / "own"))

    assert (successes(found), still_open) == (set(), [])
    assert (found["fork"], found["new privileges"]) == ("done", False)
    if os.geteuid() == 0:
        assert (found["user"], missing) == (NOBODY, {})


def test_the_attempts_succeed_without_confinement(around: Surroundings, tmp_path: Path) -> None:
    """Otherwise the other tests would show nothing."""
    free = subprocess.run(
        [sys.executable, "-c", around.program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )

    assert successes(json.loads(free.stdout)) >= {"connect", "environ", "files", "secret", "list", "write", "signal"}


def test_without_namespaces_as_in_a_container_the_same_doors_are_closed(around: Surroundings, tmp_path: Path) -> None:
    missing, still_open, found = outcome(run(around.program, tmp_path / "other", without=(UNSHARE[MACHINE],)))

    assert {"network namespace", "file tree"} <= set(missing)
    assert (successes(found), still_open) == (set(), [])


def test_a_normal_user_without_namespaces_is_confined_too(around: Surroundings, tmp_path: Path) -> None:
    if os.geteuid() or not shutil.which("/usr/bin/python3"):
        pytest.skip("needs root, and the system's Python")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    missing, still_open, found = outcome(
        run(around.program, tmp_path / "own", without=(UNSHARE[MACHINE],), user=NOBODY)
    )

    assert missing["another user"] == "it has the user of its parent"
    assert (successes(found), still_open, found["user"]) == (set(), [], NOBODY)


def test_root_that_stays_root_has_none_of_its_rights(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root")
    program = """
for attempt in (lambda: os.chown(".", 1, 1), lambda: os.chroot("."), lambda: os.setuid(1)):
    try:
        attempt()
        print("did it")
    except PermissionError:
        print("may not")
"""
    ended = run(program, tmp_path / "own", other_user=False)

    assert ended.stdout.splitlines()[1:] == ["may not"] * 3, ended.stderr


def test_a_kernel_with_nothing_is_told_and_can_be_refused(around: Surroundings, tmp_path: Path) -> None:
    nothing = (UNSHARE[MACHINE], SECCOMP[MACHINE], LANDLOCK)
    missing, still_open, found = outcome(run(around.program, tmp_path / "own", without=nothing))

    assert {"network namespace", "file tree", "Landlock", "seccomp"} <= set(missing)
    assert {"the network", "files outside its folder, such as those of the data folder"} <= set(still_open)
    assert found["connect"] == "done", "what is called open is open"

    refused = run(around.program, tmp_path / "other", without=nothing, required=True)
    assert refused.returncode == 1
    assert "not confined: this is open: the network" in refused.stderr
    assert not refused.stdout


@pytest.mark.parametrize(
    ("limits", "attempt", "told"),
    [
        ({"data": 100 << 20}, "bytearray(200 << 20)", "MemoryError"),
        ({"memory": 300 << 20}, "bytearray(400 << 20)", "MemoryError"),
        ({"file": 1000}, "open('big', 'wb', buffering=0).write(b'x' * 2000) + open('big', 'ab', 0).write(b'z')", "27]"),
        ({"files": 20}, "[open('/dev/null') for _ in range(30)]", "OSError: [Errno 24]"),
    ],
)
def test_a_hard_limit_holds(limits: dict[str, int], attempt: str, told: str, tmp_path: Path) -> None:
    ended = run(f"kept = {attempt}\nprint('did it')", tmp_path / "own", limits=limits)

    assert ended.returncode == 1
    assert told in ended.stderr


def test_the_limits_of_cpu_and_of_processes_hold(tmp_path: Path) -> None:
    spins = run("while True: pass", tmp_path / "own", limits={"cpu": 1})
    assert spins.returncode == -24, "SIGXCPU"

    if os.geteuid() == 0:
        starts = """
import threading
for _ in range(50):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
"""
        ended = run(starts, tmp_path / "two", limits={"processes": 5})
        assert "can't start new thread" in ended.stderr


def test_a_process_with_network_reaches_it_and_nothing_else(around: Surroundings, tmp_path: Path) -> None:
    _, still_open, found = outcome(run(around.program, tmp_path / "own", network=True))

    assert (successes(found), still_open) == ({"connect"}, [])


def test_a_process_without_children_starts_none(around: Surroundings, tmp_path: Path) -> None:
    _, _, found = outcome(run(around.program, tmp_path / "own", processes=False))

    assert (successes(found), found["fork"]) == (set(), "PermissionError")
