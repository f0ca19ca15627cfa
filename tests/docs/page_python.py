"""Runs blocks of Python: each is a line of JSON on standard input, its outcome one on standard output.

The blocks of a page share one process and one namespace, as the reader of the page expects; a block with `new` begins
another one. The processes are forked from one that has loaded the libraries. Functions that are named like tests, and
take no arguments, are called.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import types
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.fixtures.fork_server import load

sys.path[0] = ""
LAST = "\n"


def run(block: dict[str, Any], module: types.ModuleType) -> str:
    """Run a block; returns what went wrong, with the line of the page, or an empty text."""
    written, known = StringIO(), set(vars(module))
    try:
        with redirect_stdout(written):
            code = compile("\n" * (block["line"] - 1) + block["code"], block["page"], "exec", dont_inherit=True)
            exec(code, vars(module))  # noqa: S102 - the documentation is ours
            for name, value in list(vars(module).items()):
                if (
                    name.startswith("test_")
                    and name not in known
                    and callable(value)
                    and not value.__code__.co_argcount
                ):
                    value()
    except BaseException:  # noqa: BLE001 - whatever it is, the page is wrong
        return f"{block['code']}\n{written.getvalue()}{traceback.format_exc()}"
    return ""


class Page:
    """The process of one page."""

    def __init__(self) -> None:
        requests, ours = os.pipe()
        theirs, answers = os.pipe()
        if (pid := os.fork()) == 0:
            with os.fdopen(requests) as lines, os.fdopen(answers, "w") as out:
                serve(lines, out)
            sys.exit()
        os.close(requests)
        os.close(answers)
        self._pid, self._requests, self._answers = pid, os.fdopen(ours, "w"), os.fdopen(theirs)

    def run(self, line: str) -> str:
        """Run a block; returns the line with its outcome."""
        with suppress(BrokenPipeError):
            self._requests.write(line)
            self._requests.flush()
        return self._answers.readline() or '{"problem": "Python has ended"}\n'

    def end(self) -> None:
        """Let the process end. It sees no end of its input: later processes have our end of it, too."""
        with suppress(BrokenPipeError):
            self._requests.write(LAST)
            self._requests.flush()
        os.waitpid(self._pid, 0)
        with suppress(BrokenPipeError):
            self._requests.close()
        self._answers.close()


def serve(lines: IO[str], answers: IO[str]) -> None:
    """Serve the blocks of one page until the last line."""
    page = sys.modules["page"] = types.ModuleType("page")
    while (line := lines.readline()) not in ("", LAST):
        answers.write(json.dumps({"problem": run(json.loads(line), page)}) + "\n")
        answers.flush()


def main() -> None:
    """Serve blocks until standard input ends."""
    load(with_ours=True)
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    answers, sys.stdout = sys.stdout, sys.stderr
    pages: dict[str, Page] = {}
    while line := sys.stdin.readline():  # nothing may be read ahead of a fork
        block = json.loads(line)
        if block["new"] and (before := pages.pop(block["page"], None)):
            before.end()
        page = pages.get(block["page"]) or pages.setdefault(block["page"], Page())
        answers.write(page.run(line))
        answers.flush()
    while pages:
        pages.popitem()[1].end()


if __name__ == "__main__":
    main()
