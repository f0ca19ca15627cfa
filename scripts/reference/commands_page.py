"""The page of commands: every command and option of `laneway`, with its help text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from typer.main import get_command

from laneway.cli.command_line import COMMANDS, cli
from scripts.reference.markdown import code, table

INTRODUCTION: Final = """# Commands

`laneway --help` lists these commands, and `laneway COMMAND --help` the options of one.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | an error, in one sentence on standard error; or the command could show only what the database knows |
| 2 | wrong settings or options |
"""


def commands_page() -> str:
    """The Markdown of the page."""
    found = list(every_command())
    library = [_section(context) for name, context in found if name in COMMANDS]
    application = [_section(context) for name, context in found if name not in COMMANDS]
    return "\n".join([INTRODUCTION, "## The platform\n", *library, "## The application\n", *application])


def every_command() -> Iterator[tuple[str, Any]]:
    """For each command that does something: the first word after `laneway`, and the context of its help."""
    root: Any = get_command(cli)
    context = root.context_class(root, info_name="laneway")
    for name in root.list_commands(context):
        for leaf in _leaves(root, context, name):
            yield name, leaf


def _leaves(group: Any, parent: Any, name: str) -> Iterator[Any]:
    _, command, _ = group.resolve_command(parent, [name])
    context = command.context_class(command, info_name=name, parent=parent)
    if not hasattr(command, "list_commands"):
        yield context
        return
    for inner in command.list_commands(context):
        yield from _leaves(command, context, inner)


def _section(context: Any) -> str:
    command = context.command
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    records = [item.get_help_record(context) for item in command.params if not item.hidden]
    text = (command.help or "").replace("\b", "").replace("\\[", "[")
    shown = f"### {context.command_path}\n\n{text}\n\n```text\n{usage}\n```\n"
    rows = [(code(words), meaning.replace("\\[", "[")) for words, meaning in filter(None, records)]
    return shown + ("\n" + table(("option", "meaning"), rows) if rows else "")
