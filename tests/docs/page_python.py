"""Runs the blocks of Python of one page: each is a line of JSON on standard input, its outcome one on standard output.

The blocks of a page share one namespace, as the reader of the page expects. Functions that are named like tests, and
take no arguments, are called.
"""

from __future__ import annotations

import json
import sys
import traceback
import types
from contextlib import redirect_stdout
from io import StringIO
from typing import Any


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


def main() -> None:
    """Serve blocks until standard input ends."""
    page = sys.modules["page"] = types.ModuleType("page")
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        answers.write(json.dumps({"problem": run(json.loads(line), page)}) + "\n")
        answers.flush()


if __name__ == "__main__":
    sys.path[0] = ""
    main()
