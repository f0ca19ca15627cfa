"""Calls of the C library that Python has no function for. Each raises OSError with the call's name."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from functools import cache
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
MACHINE: Final = platform.machine()


@cache
def _libc() -> ctypes.CDLL:
    if not sys.platform.startswith("linux"):
        raise OSError(errno.ENOSYS, "this system is not Linux")
    return ctypes.CDLL(None, use_errno=True)


def checked(result: int, name: str) -> int:
    """Return the result of a call. Raises OSError if it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def prctl(option: int, value: int = 0) -> int:
    """Call prctl(2) with one value."""
    return checked(_libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0), "prctl")


def syscall(number: int, name: str, *arguments: object) -> int:
    """Call a system call by its number; integers are passed as longs, bytes and structures as pointers."""
    passed = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return checked(_libc().syscall(ctypes.c_long(number), *passed), name)


def unshare(flags: int) -> None:
    """Leave namespaces that are shared with other processes: unshare(2)."""
    checked(_libc().unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """Mount a file system: mount(2)."""
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    result = _libc().mount(*words, ctypes.c_ulong(flags), None if data is None else data.encode())
    checked(result, f"mount {target}")


def unmount(target: str, flags: int) -> None:
    """Unmount a file system: umount2(2)."""
    checked(_libc().umount2(os.fsencode(target), ctypes.c_int(flags)), f"umount {target}")


def clear_capabilities() -> None:
    """Give up all capabilities: capset(2), version 3 of its structures."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    checked(_libc().capset(header, (ctypes.c_uint32 * 6)()), "capset")
