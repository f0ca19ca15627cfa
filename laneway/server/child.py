"""Executes a program that dies together with the process that started it.

Run this file by its path and isolated (`python -IS child.py PARENT_PID PROGRAM ARGUMENTS...`), so that it takes only a
few milliseconds. On Linux the kernel kills the program as soon as its parent has ended, for whatever reason.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""From prctl(2). The setting survives execve. The parent is the thread that forked: it must be the main thread."""


def main() -> None:
    """Ask the kernel to kill this process when its parent dies, then execute the program."""
    parent, *argv = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != int(parent):  # the parent died before the line above
            sys.exit(1)
    try:
        os.execvp(argv[0], argv)  # noqa: S606
    except OSError as error:
        sys.exit(f"{argv[0]} cannot be started: {error.strerror}")


if __name__ == "__main__":
    main()
