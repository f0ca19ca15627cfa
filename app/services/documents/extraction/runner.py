"""Starts the process that reads a document, limits it, and returns its result.

Celery's pool processes cannot have children of their own kind, so the reader is a separate program. It gets only
the environment variables that Python needs to start, so it has no secrets. It inherits no connections, and its
resources are limited.
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
from app.services.documents.extraction.reading import Limits, Report
from laneway.platform.children import log_outcome
from laneway.platform.errors import PermanentError, PlatformError, RetryableError
from laneway.platform.settings import ChildSettings

CLOCK_FACTOR: Final = 3
"""Reading may last this many times its CPU limit on the clock, because the machine may be busy."""
MAX_LINE_BYTES: Final = 65_536
INHERITED_VARIABLES: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")
"""Environment variables that Python may need to start."""
CRASHES: Final[dict[int, str]] = {
    signal.SIGXCPU: "too much time",
    signal.SIGXFSZ: "too much text",
    signal.SIGABRT: "too much memory",
    signal.SIGSEGV: "its reader crashed",
    signal.SIGBUS: "its reader crashed",
    signal.SIGILL: "its reader crashed",
    signal.SIGFPE: "its reader crashed",
}
"""Signals that the document causes. Other signals come from outside, such as SIGKILL when the machine has no memory."""


class ExtractionStalled(RetryableError):
    """The reading process was too slow although it used little CPU: the machine was busy."""

    title = "Extraction stalled"

    template = "Document {name!r} was not read within {seconds:g} s."
    name: str
    seconds: float


class ExtractionRefused(PermanentError):
    """The reading process could not be confined, and therefore read nothing."""

    title = "Extraction not confined"

    template = "Document {name!r} was not read, because its reader could not be confined: {reason}."
    name: str
    reason: str


class ExtractionLost(RetryableError):
    """The reading process was killed from outside."""

    title = "Extraction lost"

    template = "The process that read document {name!r} ended without a result: {reason}"
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Extracted:
    """The text of a document, split into passages; `problems` says what is missing from it."""

    kind: Kind
    title: str
    digest: str
    pages: int | None
    characters: int
    passages: list[str]
    problems: list[str]


def extract(
    file: BinaryIO,
    *,
    name: str,
    claimed: Kind | None,
    limits: Limits,
    folder: Path,
    report: Report,
    children: ChildSettings,
    charset: str | None = None,
) -> Extracted:
    """Read an open file in a process of its own; `folder` holds the process's temporary files.

    `charset` is the encoding that its content type names.

    Raises the errors of `errors` and ExtractionRefused (permanent), ExtractionStalled and ExtractionLost (retryable),
    and the errors of `report`, which end the process.
    """
    file.flush()
    with TemporaryFile(dir=folder) as target, TemporaryFile(dir=folder) as stderr:
        descriptors = {"file": file.fileno(), "target": target.fileno()}
        job = {"name": name, "claimed": claimed, "charset": charset, "limits": asdict(limits), **descriptors}
        job["confinement"] = _confinement(children)
        with _start(job, stderr, inherited=tuple(descriptors.values())) as process:
            try:
                result = _read_result(process, name, report, seconds=CLOCK_FACTOR * limits.seconds)
                if result is None:
                    raise _exit_error(name, process.wait(), stderr)
            finally:
                process.kill()  # It has ended, or must end now.
                process.wait()  # On KeyboardInterrupt, Popen itself waits only a quarter of a second.
        target.seek(0)
        return _extracted(result, name, target)


def _start(job: dict[str, Any], stderr: BinaryIO, *, inherited: tuple[int, ...]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  our own program
        [sys.executable, "-m", "app.services.documents.extraction", json.dumps(job)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        cwd=ROOT,
        start_new_session=True,
        pass_fds=inherited,
        env=_environment(),
    )


def _confinement(children: ChildSettings) -> dict[str, Any]:
    user, group = children.ids() or (None, None)
    return {"user": user, "group": group, "required": children.required}


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in INHERITED_VARIABLES if name in os.environ} | {"PYTHONUTF8": "1"}


def _read_result(
    process: subprocess.Popen[bytes], name: str, report: Report, *, seconds: float
) -> dict[str, Any] | None:
    """Report the process's progress until it ends, and return its result; None if it had none."""
    result: dict[str, Any] | None = None
    for line in _lines(process, name, seconds=seconds):
        with suppress(ValueError):
            content = json.loads(line)
            if "percent" in content:
                report(content["percent"], content["message"])
            elif "missing" in content:
                log_outcome("the reader of a document", content["missing"], content["open"])
            elif "refused" in content:
                raise ExtractionRefused(name, content["refused"])
            else:
                result = content
    return result


def _lines(process: subprocess.Popen[bytes], name: str, *, seconds: float) -> Iterator[bytes]:
    assert process.stdout is not None  # noqa: S101  It was started with a pipe.
    deadline, rest = monotonic() + seconds, b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            remaining = deadline - monotonic()
            if remaining <= 0 or not selector.select(remaining):
                raise ExtractionStalled(name, seconds)
            block = os.read(process.stdout.fileno(), 65_536)
            if not block:
                return
            *lines, rest = (rest + block).split(b"\n")
            rest = rest[:MAX_LINE_BYTES]
            yield from lines


def _exit_error(name: str, code: int, stderr: BinaryIO) -> PlatformError:
    """The error of a process that ended without a result: caused by the document, or from outside."""
    if -code in CRASHES:
        return DocumentTooComplex(name, CRASHES[-code])
    stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - 300))
    last_line = stderr.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
    return ExtractionLost(name, f"{f'signal {-code}' if code < 0 else f'code {code}'} {last_line}".strip())


def _extracted(result: dict[str, Any], name: str, target: BinaryIO) -> Extracted:
    if "error" in result:
        raise BY_NAME.get(str(result["error"]), DocumentError)(name, str(result.get("detail", "")))
    passages = [str(json.loads(line)) for line in target]
    return Extracted(
        kind=Kind(result["kind"]),
        title=result["title"],
        digest=result["digest"],
        pages=result["pages"],
        characters=result["characters"],
        passages=passages,
        problems=list(result["problems"]),
    )
