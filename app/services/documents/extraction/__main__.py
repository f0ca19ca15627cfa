"""Reads one document in a process of its own: `python -m app.services.documents.extraction JOB`, started by `runner`.

The job is JSON; the file and the place for its passages (JSON, one a line) are inherited file descriptors. On standard
output comes the progress, and at last the verdict, JSON by lines. Before it looks at the file the process takes away
from itself what a hostile one could use: memory, CPU time, disk. It ends when its parent does.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import import_module
from pathlib import PurePosixPath
from threading import Thread
from time import monotonic
from typing import Any, BinaryIO, Final

from app.services.documents.extraction.errors import (
    DocumentCorrupt,
    DocumentEmpty,
    DocumentError,
    DocumentTooComplex,
    DocumentWithoutText,
    megabytes,
)
from app.services.documents.extraction.kinds import TEXTS, Kind, detect
from app.services.documents.extraction.reading import Limits, Source, Text
from app.services.documents.extraction.splitting import digest, split
from app.services.documents.extraction.text import checked, fitting_title

READERS: Final = {Kind.PDF: "pdf", Kind.DOCX: "docx", Kind.HTML: "html", Kind.MARKDOWN: "plain", Kind.PLAIN: "plain"}
"""Only the module that is needed is imported: the others cost memory and time."""
TELL_EVERY: Final = 0.2
"""Seconds between two reports."""
OUTPUT: Final = 16
"""Bytes that may be written for a byte of text: JSON escapes, and headings that are repeated."""


def main() -> None:
    """Read, and say what came of it."""
    Thread(target=_end_with_the_parent, daemon=True).start()
    job = json.loads(sys.argv[1])
    limits = Limits(**job["limits"])
    _bound(limits)
    with os.fdopen(job["file"], "rb", closefd=False) as file, os.fdopen(job["target"], "w", encoding="ascii") as target:
        verdict = _verdict(file, target.write, job=job, limits=limits)
    _say(verdict)
    os._exit(0)  # without the interpreter's tidying up: the other thread is in the midst of a read


def _verdict(file: BinaryIO, write: Callable[[str], object], *, job: dict[str, Any], limits: Limits) -> dict[str, Any]:
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
    except Exception as error:  # noqa: BLE001  what a broken file makes of a parser
        return {"error": DocumentCorrupt.__name__, "detail": f"{type(error).__name__}: {error}"[:200]}


def _too_complex(detail: str) -> dict[str, Any]:
    return {"error": DocumentTooComplex.__name__, "detail": detail}


def _read(file: BinaryIO, write: Callable[[str], object], *, job: dict[str, Any], limits: Limits) -> dict[str, Any]:
    name: str = job["name"]
    _say({"percent": 0, "message": "detecting the type"})
    kind = detect(file, name, Kind(job["said"]) if job["said"] else None)
    reader = import_module(f"app.services.documents.extraction.{READERS[kind]}")
    found: Text = reader.read(Source(name, file, limits, _teller()))
    text = _whole(found, name, kind, limits)
    title = fitting_title(found.title) or fitting_title(PurePosixPath(name).stem) or "Untitled"
    _say({"percent": 100, "message": "splitting"})
    return {
        "kind": kind.value,
        "title": title,
        "digest": digest(title, text),
        "pages": found.pages,
        "characters": len(text),
        "passages": _write(split(text), write),
    }


def _whole(found: Text, name: str, kind: Kind, limits: Limits) -> str:
    try:
        return checked(name, found.whole(), most=limits.text_bytes)
    except DocumentEmpty:
        if kind in TEXTS:
            raise
        raise DocumentWithoutText(name) from None


def _write(passages: Iterable[str], write: Callable[[str], object]) -> int:
    return sum(1 for passage in passages if write(json.dumps(passage) + "\n"))


def _teller() -> Callable[[float, str], None]:
    said = -TELL_EVERY

    def tell(percent: float, message: str) -> None:
        nonlocal said
        if monotonic() - said >= TELL_EVERY:
            said = monotonic()
            _say({"percent": percent, "message": message})

    return tell


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _bound(limits: Limits) -> None:
    """Soft limits end in an error or a signal that the parent knows; what a system does not have is left out."""
    seconds = max(1, round(limits.seconds))
    output = OUTPUT * limits.text_bytes + 65_536
    for what, most in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, output),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        with suppress(ValueError, OSError):
            _, hard = resource.getrlimit(what)
            resource.setrlimit(what, (most, hard))


def _end_with_the_parent() -> None:
    os.read(0, 1)  # the parent writes nothing: this ends when its side of the pipe is closed
    os._exit(1)


if __name__ == "__main__":
    main()
