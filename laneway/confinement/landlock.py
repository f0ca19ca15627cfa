"""Landlock: which files a process may open, whatever their owner and mode. No privilege is needed (Linux 5.13).

A process in a Landlock domain also cannot look into processes outside it: `/proc/PID/environ`, `mem`, `fd` and ptrace
are refused. https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from laneway.confinement import kernel

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""The numbers of the system calls, the same on all machines."""
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
FIRST_ACCESSES: Final = (1 << 13) - 1
"""What version 1 handles: reading, writing, executing, creating and removing."""
READ: Final = EXECUTE | READ_FILE | READ_DIR
OF_FILES: Final = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""What can be allowed for a file; the rest is for folders."""
BIND_TCP_AND_CONNECT_TCP: Final = 3
ABSTRACT_SOCKETS_AND_SIGNALS: Final = 3


def version() -> int:
    """The version of Landlock that the kernel has. Raises OSError without Landlock."""
    return kernel.syscall(CREATE_RULESET, "landlock_create_ruleset", None, 0, 1)


def restrict(*, readable: Iterable[str], writable: Iterable[str], network: bool) -> None:
    """Allow reading below `readable`, everything below `writable`, and nothing elsewhere. Raises OSError.

    Paths that do not exist are left out. Signals to processes outside are refused from version 6, TCP from version 4.
    The process needs PR_SET_NO_NEW_PRIVS.
    """
    has = version()
    handled = (
        FIRST_ACCESSES | (REFER if has >= 2 else 0) | (TRUNCATE if has >= 3 else 0) | (IOCTL_DEV if has >= 5 else 0)
    )
    tcp = BIND_TCP_AND_CONNECT_TCP if has >= 4 and not network else 0
    scoped = ABSTRACT_SOCKETS_AND_SIGNALS if has >= 6 else 0
    attributes = struct.pack("QQQ", handled, tcp, scoped)[: 24 if has >= 6 else 16 if has >= 4 else 8]
    ruleset = kernel.syscall(CREATE_RULESET, "landlock_create_ruleset", attributes, len(attributes), 0)
    try:
        for path in readable:
            _allow(ruleset, path, accesses=READ & handled)
        for path in writable:
            _allow(ruleset, path, accesses=handled)
        kernel.syscall(RESTRICT_SELF, "landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, *, accesses: int) -> None:
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(place).st_mode):
                accesses &= OF_FILES
            rule = struct.pack("=Qi", accesses, place)  # a packed structure
            kernel.syscall(ADD_RULE, "landlock_add_rule", ruleset, 1, rule, 0)
        finally:
            os.close(place)
