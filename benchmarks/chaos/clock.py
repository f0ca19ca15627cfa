"""Moves the clock of the harness's servers with libfaketime, which is optional.

The library is loaded into the server. It adds an offset to the time of day, which it reads from a file. The monotonic
clock stays as it is, and so do the clocks of workers and producers.
"""

from __future__ import annotations

import os
from pathlib import Path

LIBRARY = "libfaketimeMT.so.1"
FOLDERS = ("/usr/lib/faketime", "/usr/lib/*-linux-gnu/faketime", "/usr/lib64/faketime", "/usr/local/lib/faketime")
VARIABLE = "FAKETIME_LIBRARY"
"""The environment variable with the library's path, if it is elsewhere."""
NOT_INSTALLED = (
    f"The server's clock is not moved: libfaketime is not installed (Debian: apt install faketime; or name {LIBRARY} "
    f"in {VARIABLE})."
)
READ_SECONDS = 1
"""Seconds after which the library reads its file again."""


def find_library() -> Path | None:
    """The library's path; None: it is not installed."""
    if given := os.environ.get(VARIABLE):
        return Path(given)
    found = (path for folder in FOLDERS for path in Path("/").glob(f"{folder[1:]}/{LIBRARY}"))
    return next(found, None)


class MovableClock:
    """The offset of the servers' clock from the machine's."""

    def __init__(self, library: Path, file: Path) -> None:
        self._library, self._file = library, file
        self.offset = 0.0
        """Seconds that the servers' clock is ahead."""
        self._write()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of a server with this clock."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": str(READ_SECONDS),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def move(self, seconds: float) -> None:
        """Move the clock; it jumps within `READ_SECONDS`."""
        self.offset += seconds
        self._write()

    def _write(self) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{self.offset:+.3f}\n")
        new.replace(self._file)
