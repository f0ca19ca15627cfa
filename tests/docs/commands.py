"""Checks that commands exist, without running them: `laneway dead groups|list`, `make chaos`, `python -m …`."""

from __future__ import annotations

import re
import shlex
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from app.core.settings import ROOT
from scripts.reference.commands_page import every_command

ALTERNATIVES = re.compile(r"[a-z-]+(\|[a-z-]+)+")


def problems(text: str) -> list[str]:
    """One sentence for each command that does not exist, or has no such option."""
    return [problem for line in joined_lines(text) for words in _spelled_out(line) if (problem := _problem(words))]


def joined_lines(text: str) -> list[str]:
    """The commands of a block: a line that ends with a backslash, or within quotes, goes on."""
    commands: list[str] = []
    open_line = ""
    for line in text.splitlines():
        open_line = f"{open_line}\n{line}" if open_line else line
        if open_line.endswith("\\"):
            continue
        try:
            words = shlex.split(open_line, comments=True)
        except ValueError:  # within quotes
            continue
        if words:
            commands.append(open_line)
        open_line = ""
    assert not open_line, f"quotes are not closed: {open_line}"
    return commands


def _spelled_out(line: str) -> list[list[str]]:
    """Each command that `a|b c` stands for."""
    words = shlex.split(line, comments=True)
    choices = [word.split("|") if ALTERNATIVES.fullmatch(word) else [word] for word in words]
    return [list(command) for command in product(*choices)]


def _problem(words: list[str]) -> str | None:
    match words:
        case ["laneway", *rest]:
            return _laneway_problem(rest)
        case ["make", target, *_]:
            targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
            return None if target in targets else f"make has no target {target}"
        case ["python", "-m", module, *rest]:
            return _module_problem(module, rest)
        case _:
            return f"it is not known how to check {' '.join(words)!r}"


@cache
def _options() -> dict[tuple[str, ...], set[str]]:
    """Words of a command of `laneway` → its options."""
    found: dict[tuple[str, ...], set[str]] = {}
    for _, context in every_command():
        parameters: list[Any] = context.command.params
        found[tuple(context.command_path.split()[1:])] = {name for item in parameters for name in item.opts}
    return found


def _laneway_problem(words: list[str]) -> str | None:
    while words and (words[0] == "COMMAND" or words[0].startswith("--")):  # any command, options of them all
        words = words[1:]
    if words[:1] == ["adopt"]:
        return _module_problem("laneway.adopt.command", words[1:])
    path = next((path for size in (3, 2, 1) if (path := tuple(words[:size])) in _options()), None)
    if any(known[: len(words)] == tuple(words) for known in _options()):
        return None  # a group of commands
    if path is None:
        return f"there is no command laneway {' '.join(words)}"
    options = [word.partition("=")[0] for word in words if word.startswith("-")]
    unknown = [option for option in options if option not in _options()[path]]
    return f"laneway {' '.join(path)} has no option {unknown[0]}" if unknown else None


def _module_problem(module: str, words: list[str]) -> str | None:
    path = ROOT / Path(*module.split("."))
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    if not files or not files[0].exists():
        return f"there is no module {module}"
    source = "".join(file.read_text("utf-8") for file in files)
    unknown = [word for word in words if word.startswith("--") and f'"{word}"' not in source]
    return f"{module} has no option {unknown[0]}" if unknown else None
