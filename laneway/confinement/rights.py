"""Another user, no capabilities, and hard limits."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from laneway.confinement import kernel

LIMITS: Final = {
    "memory": "RLIMIT_AS",
    "data": "RLIMIT_DATA",
    "cpu": "RLIMIT_CPU",
    "file": "RLIMIT_FSIZE",
    "files": "RLIMIT_NOFILE",
    "core": "RLIMIT_CORE",
    "processes": "RLIMIT_NPROC",
}
"""Our name → that of getrlimit(2). Bytes of address space, of memory, seconds, bytes of a file, open files, bytes of a
core dump; processes and threads beside those that the user has already.
"""
LAST_CAPABILITY: Final = 63


def limit(limits: Mapping[str, int], *, user: int) -> None:
    """Set hard limits. Raises OSError or ValueError.

    The signal at the limit of CPU comes one second before the process is killed, so that it can be told apart.
    """
    for name, value in limits.items():
        wanted = value
        kind = int(getattr(resource, LIMITS[name]))
        if name == "processes":
            wanted += _tasks_of(user)
        now = resource.getrlimit(kind)[1]
        hard = wanted + 1 if name == "cpu" else wanted
        hard = hard if now == resource.RLIM_INFINITY else min(now, hard)
        resource.setrlimit(kind, (min(wanted, hard), hard))


def become(user: int, group: int) -> None:
    """Become another user, without other groups. Raises OSError."""
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)


def forbid_new_privileges() -> None:
    """Let no program that this process executes gain rights, such as one with the set-user-ID bit. Raises OSError."""
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)


def drop_bounding_set() -> None:
    """Let no program that this process executes have capabilities, also one that root executes."""
    with suppress(OSError):  # the kernel has fewer, or this process may not; it has none to lose then
        for capability in range(LAST_CAPABILITY + 1):
            kernel.prctl(kernel.PR_CAPBSET_DROP, capability)


def _tasks_of(user: int) -> int:
    """The processes and threads of a user: the kernel counts them together with those of the child."""
    count = 0
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == user:
                count += sum(1 for _ in (entry / "task").iterdir())
    return count
