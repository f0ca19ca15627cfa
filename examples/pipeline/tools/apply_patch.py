"""Applies the patches for the tests that qa's report names as failing. Exit code 1: no patch matches."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path


def main() -> int:
    """Read the report and apply the matching patches."""
    report = Path(os.environ["PIPELINE_QA_REPORT"]).read_text("utf-8")
    failing = set(re.findall(r"^(?:FAIL|ERROR): (\w+)", report, re.MULTILINE))
    print("failing:", ", ".join(sorted(failing)) or "no named test")
    applied = [path.name for path in sorted(Path("fixes").glob("*.patch")) if is_for(path, failing) and apply(path)]
    print("applied:", ", ".join(applied) or "no patch matches")
    return 0 if applied else 1


def is_for(path: Path, failing: set[str]) -> bool:
    """Whether the patch's first line names a failing test."""
    first = path.read_text("utf-8").partition("\n")[0]
    return first.removeprefix("For: ") in failing


def apply(path: Path) -> bool:
    """Replace each hunk's old lines by its new ones. Returns False and changes nothing if a hunk does not match."""
    target, hunks = parse(path.read_text("utf-8"))
    text = target.read_text("utf-8")
    for old, new in hunks:
        if text.count(old) != 1:
            return False
        text = text.replace(old, new)
    target.write_text(text, "utf-8")
    return True


def parse(patch: str) -> tuple[Path, list[tuple[str, str]]]:
    """Parse a unified diff into its file and (old, new) of each hunk."""
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
