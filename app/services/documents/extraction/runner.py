"""Starts the process that reads a document, bounds it, and gives back what it found.

Pool processes of Celery may have no children of their own kind, so this is a plain program. It gets none of our
environment (and so no secret), no connection, and of the file system what anybody has; what it may take is limited.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic
from typing import Any, BinaryIO, Final

from app.core.settings import ROOT
from app.services.documents.extraction.errors import BY_NAME, DocumentError, DocumentTooComplex
from app.services.documents.extraction.kinds import Kind
from app.services.documents.extraction.reading import Limits, Tell
from laneway.platform.errors import PlatformError, RetryableError

OVERTIME: Final = 3
"""The reading may last so many times the CPU time that it may take: machines are busy."""
LONGEST_LINE: Final = 65_536
PASSED_ON: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")
"""Variables without which Python may not be found or start."""
CRASHES: Final[dict[int, str]] = {
    signal.SIGXCPU: "too much time",
    signal.SIGXFSZ: "too much text",
    signal.SIGABRT: "too much memory",
    signal.SIGSEGV: "its reader crashed",
    signal.SIGBUS: "its reader crashed",
    signal.SIGILL: "its reader crashed",
    signal.SIGFPE: "its reader crashed",
}
"""Signals that are the document's doing; others come from outside, the kernel's at a lack of memory among them."""


class ExtractionStalled(RetryableError):
    """The reading process was too slow, though it used little CPU: the machine was busy."""

    title = "Extraction stalled"

    template = "Document {name!r} was not read within {seconds:g} s."
    name: str
    seconds: float


class ExtractionLost(RetryableError):
    """The reading process was ended from outside."""

    title = "Extraction lost"

    template = "The process that read document {name!r} ended without a word: {reason}"
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Extracted:
    """The text of a document, in passages."""

    kind: Kind
    title: str
    digest: str
    pages: int | None
    characters: int
    passages: list[str]


def extract(file: BinaryIO, *, name: str, said: Kind | None, limits: Limits, folder: Path, tell: Tell) -> Extracted:
    """Read a file that is open here, in a process of its own; `folder` is for what is written meanwhile.

    Raises the errors of `errors` (permanent), ExtractionStalled and ExtractionLost (to be tried again), and what `tell`
    raises, which ends the process.
    """
    file.flush()
    with TemporaryFile(dir=folder) as target, TemporaryFile(dir=folder) as complaints:
        job = {"name": name, "said": said, "file": file.fileno(), "target": target.fileno(), "limits": asdict(limits)}
        with subprocess.Popen(  # noqa: S603  our own program
            [sys.executable, "-m", "app.services.documents.extraction", json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            cwd=ROOT,
            start_new_session=True,
            pass_fds=(file.fileno(), target.fileno()),
            env=_environment(),
        ) as process:
            try:
                verdict = _followed(process, name, tell, seconds=OVERTIME * limits.seconds)
                if verdict is None:
                    raise _ended(name, process.wait(), complaints)
            finally:
                process.kill()  # it has ended, or is to
        target.seek(0)
        return _result(verdict, name, target)


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {"PYTHONUTF8": "1"}


def _followed(process: subprocess.Popen[bytes], name: str, tell: Tell, *, seconds: float) -> dict[str, Any] | None:
    """Tell what the process tells, up to its verdict; None when it ended without one."""
    verdict: dict[str, Any] | None = None
    for line in _lines(process, name, seconds=seconds):
        with suppress(ValueError):
            said = json.loads(line)
            if "percent" in said:
                tell(said["percent"], said["message"])
            else:
                verdict = said
    return verdict


def _lines(process: subprocess.Popen[bytes], name: str, *, seconds: float) -> Iterator[bytes]:
    assert process.stdout is not None  # noqa: S101  how it was started
    deadline, rest = monotonic() + seconds, b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = deadline - monotonic()
            if left <= 0 or not selector.select(left):
                raise ExtractionStalled(name, seconds)
            block = os.read(process.stdout.fileno(), 65_536)
            if not block:
                return
            *lines, rest = (rest + block).split(b"\n")
            rest = rest[:LONGEST_LINE]
            yield from lines


def _ended(name: str, code: int, complaints: BinaryIO) -> PlatformError:
    """What it means that the process ended without a verdict: the document's doing, or somebody else's."""
    if -code in CRASHES:
        return DocumentTooComplex(name, CRASHES[-code])
    complaints.seek(max(0, complaints.seek(0, os.SEEK_END) - 300))
    said = complaints.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
    return ExtractionLost(name, f"{f'signal {-code}' if code < 0 else f'code {code}'} {said}".strip())


def _result(verdict: dict[str, Any], name: str, target: BinaryIO) -> Extracted:
    if "error" in verdict:
        raise BY_NAME.get(str(verdict["error"]), DocumentError)(name, str(verdict.get("detail", "")))
    passages = [str(json.loads(line)) for line in target]
    return Extracted(
        kind=Kind(verdict["kind"]),
        title=verdict["title"],
        digest=verdict["digest"],
        pages=verdict["pages"],
        characters=verdict["characters"],
        passages=passages,
    )
