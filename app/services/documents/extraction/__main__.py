"""Reads one document in its own process: `python -m app.services.documents.extraction JOB`, started by `runner`.

The job is JSON. The file, and the target of its passages (one JSON string per line), are inherited file descriptors.
Standard output has the progress, and the result as its last line, in JSON. Before the process opens the file, it limits
its own memory, CPU time and disk space, and gives up its rights (`laneway.confinement`): it may read its code and no
other file, and has no network and no other process. The file may be hostile. The process ends when its parent ends.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path, PurePosixPath
from threading import Thread
from time import monotonic
from typing import Any, BinaryIO, Final

import app
import laneway
from app.services.documents.extraction.errors import (
    DocumentCorrupt,
    DocumentEmpty,
    DocumentError,
    DocumentTooComplex,
    DocumentWithoutText,
    megabytes,
)
from app.services.documents.extraction.kinds import TEXT_KINDS, Kind, detect
from app.services.documents.extraction.reading import Limits, Source, Text
from app.services.documents.extraction.splitting import digest, first_heading, split
from app.services.documents.extraction.text import as_title, normalized_text, own_title
from laneway.confinement.confine import PYTHON, Confinement, NotConfined, confine

READERS: Final = {Kind.PDF: "pdf", Kind.DOCX: "docx", Kind.HTML: "html", Kind.MARKDOWN: "plain", Kind.PLAIN: "plain"}
"""Only the needed module is imported: the others cost memory and time."""
REPORT_INTERVAL: Final = 0.2
"""Seconds between two progress reports."""
OUTPUT_FACTOR: Final = 16
"""Bytes of output allowed per byte of text: JSON escapes and repeated headings enlarge it."""


def main() -> None:
    """Read the document and print the result."""
    job = json.loads(sys.argv[1])
    limits = Limits(**job["limits"])
    _give_up_rights(job["confinement"], limits)
    with os.fdopen(job["file"], "rb", closefd=False) as file, os.fdopen(job["target"], "w", encoding="ascii") as target:
        result = read_document(file, target.write, job=job, limits=limits)
    _print_line(result)
    os._exit(0)  # A normal exit would wait for the other thread, which is blocked in a read.


def read_document(
    file: BinaryIO, write: Callable[[str], object], *, job: dict[str, Any], limits: Limits
) -> dict[str, Any]:
    """Read a file, and return the result or the error as JSON; `write` gets the passages.

    Every failure of a parser is an error of the document.
    """
    try:
        return _read(file, write, job=job, limits=limits)
    except DocumentError as error:
        return {"error": type(error).__name__, "detail": error.detail}
    except MemoryError:
        return _too_complex(f"more than {megabytes(limits.memory_bytes)} of memory")
    except RecursionError:
        return _too_complex("nested too deeply")
    except ImportError:
        raise
    except Exception as error:  # noqa: BLE001  A broken file may make a parser raise anything.
        return {"error": DocumentCorrupt.__name__, "detail": f"{type(error).__name__}: {error}"[:200]}


def _too_complex(detail: str) -> dict[str, Any]:
    return {"error": DocumentTooComplex.__name__, "detail": detail}


def _read(file: BinaryIO, write: Callable[[str], object], *, job: dict[str, Any], limits: Limits) -> dict[str, Any]:
    name: str = job["name"]
    _print_line({"percent": 0, "message": "detecting the type"})
    kind = detect(file, name, Kind(job["claimed"]) if job["claimed"] else None)
    reader = import_module(f"app.services.documents.extraction.{READERS[kind]}")
    read: Text = reader.read(Source(name, file, limits, _progress_reporter(), job["charset"]))
    text = _checked_text(read, name, kind, limits)
    title = own_title(read.title) or as_title(first_heading(text[:100_000])) or as_title(PurePosixPath(name).stem)
    _print_line({"percent": 100, "message": "splitting"})
    return {
        "kind": kind.value,
        "title": title or "Untitled",
        "digest": digest(title or "Untitled", text),
        "pages": read.pages,
        "characters": len(text),
        "passages": _write(split(text), write),
        "problems": read.problems,
    }


def _checked_text(read: Text, name: str, kind: Kind, limits: Limits) -> str:
    try:
        return normalized_text(name, read.whole(), max_bytes=limits.text_bytes)
    except DocumentEmpty:
        if kind in TEXT_KINDS:
            raise
        raise DocumentWithoutText(name) from None


def _write(passages: Iterable[str], write: Callable[[str], object]) -> int:
    count = 0
    for passage in passages:
        write(json.dumps(passage) + "\n")
        count += 1
    return count


def _progress_reporter() -> Callable[[float, str], None]:
    reported_at = -REPORT_INTERVAL

    def report(percent: float, message: str) -> None:
        nonlocal reported_at
        if monotonic() - reported_at >= REPORT_INTERVAL:
            reported_at = monotonic()
            _print_line({"percent": percent, "message": message})

    return report


def _print_line(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _give_up_rights(wanted: dict[str, Any], limits: Limits) -> None:
    """Print what the kernel did not give. Ends the process if it must not read the document with what it has."""
    own = {
        "memory": limits.memory_bytes,
        "cpu": max(1, round(limits.seconds)),
        "file": OUTPUT_FACTOR * limits.text_bytes + 65_536,
        "core": 0,
        "files": 64,
    }
    code = tuple(str(Path(package.__file__ or "").parent) for package in (app, laneway))
    readable = (*PYTHON, *code, *(path for path in sys.path if path.endswith("-packages")))
    confinement = Confinement(**wanted, readable=readable, reach=(*code, sys.base_prefix), processes=False, limits=own)
    try:
        outcome = confine(confinement, before_filter=Thread(target=_exit_with_parent, daemon=True).start)
    except NotConfined as error:
        _print_line({"refused": str(error)})
        os._exit(1)
    _print_line({"missing": outcome.missing, "open": outcome.open})


def _exit_with_parent() -> None:
    os.read(0, 1)  # The parent writes nothing, so this returns when its end of the pipe is closed.
    os._exit(1)


if __name__ == "__main__":
    main()
