"""Applies the patches that are for the tests that qa's report names as failing. Exit code 1: there is none."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path


def main() -> int:
    """Read the report, and apply what helps."""
    report = Path(os.environ["PIPELINE_QA_REPORT"]).read_text("utf-8")
    failing = set(re.findall(r"^(?:FAIL|ERROR): (\w+)", report, re.MULTILINE))
    print("failing:", ", ".join(sorted(failing)) or "nothing that is named")
    applied = [path.name for path in sorted(Path("fixes").glob("*.patch")) if is_for(path, failing) and apply(path)]
    print("applied:", ", ".join(applied) or "no patch is for any of them")
    return 0 if applied else 1


def is_for(path: Path, failing: set[str]) -> bool:
    """Whether the patch names a failing test in its first line."""
    first = path.read_text("utf-8").partition("\n")[0]
    return first.removeprefix("For: ") in failing


def apply(path: Path) -> bool:
    """Replace each hunk's old lines by its new ones, all or nothing; False when they are not there."""
    target, hunks = parsed(path.read_text("utf-8"))
    text = target.read_text("utf-8")
    for old, new in hunks:
        if text.count(old) != 1:
            return False
        text = text.replace(old, new)
    target.write_text(text, "utf-8")
    return True


def parsed(patch: str) -> tuple[Path, list[tuple[str, str]]]:
    """The file of a unified diff, and (old, new) of each hunk."""
    head, *hunks = re.split(r"^@@ .*\n", patch, flags=re.MULTILINE)
    target = re.search(r"^\+\+\+ b/(\S+)", head, re.MULTILINE)
    if target is None:
        raise ValueError("the patch names no file")
    pairs: list[tuple[str, str]] = []
    for hunk in hunks:
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] in " -")
        pairs.append((old, "".join(line[1:] for line in lines if line[0] in " +")))
    return Path(target[1]), pairs


if __name__ == "__main__":
    sys.exit(main())
