"""Become another program that dies with the process that started this one.

Run as a file, by path and isolated (`python -IS child.py PARENT_PID PROGRAM ARGUMENTS...`), so that it costs a few
milliseconds. On Linux the kernel then kills the program as soon as its parent is gone, however that ended.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""prctl(2): survives execve; the parent is the thread that forked, so the starter must be the main thread."""


def main() -> None:
    """Ask for the parent's death to be ours, and become the program."""
    parent, *argv = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != int(parent):  # it died before the line above
            sys.exit(1)
    try:
        os.execvp(argv[0], argv)  # noqa: S606
    except OSError as error:
        sys.exit(f"{argv[0]} cannot be started: {error.strerror}")


if __name__ == "__main__":
    main()
