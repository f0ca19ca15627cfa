"""Assembles each script from its file, the parts of `scripts/lib` that it uses, and the constants that it uses.

The loader inserts the named parts after a line `-- uses: base clock record`. The server makes all functions of a
script anew at each call, and that can cost more than the commands. So a script uses a part where it needs it, also in
a block or a function, and its fast path only what it needs (ADR 0062).

A line `-- calls: put` makes that script a function of KEYS and ARGV, with all that it needs inside it. A script writes
`STATUS_STALE`, and the loader puts the value of `LeaseStatus.STALE` there. So Lua and Python share one definition of
each code, state, flag and kind. A constant that a script declares (`local MOST_LINES = 20`) is a value in the same way.

In production the only clock is the server's. A test that controls time passes another text for `clock.lua`. The scripts
themselves contain nothing for tests.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib import resources

from laneway.engine import message
from laneway.engine.journal import EventKind
from laneway.engine.keys import NAMES, TASK_LIMIT
from laneway.engine.replies import AckAction, LeaseStatus, MessageState, PutCode, StoreCode, StrayKind

OPERATIONS = (
    "put",
    "fetch",
    "ack",
    "start_attempt",
    "finish_attempt",
    "check_leases",
    "report",
    "renew",
    "release",
    "hand_on",
    "bury",
    "cancel",
    "requeue",
    "reprioritise",
    "discard",
    "limit",
    "find",
    "peek",
    "stats",
    "read_journal",
    "purge",
    "delete",
    "find_strays",
    "set_named_limit",
    "block_limit",
    "named_limits",
    "limit_waits",
    "trim_journal",
    "count_events",
    "lags",
    "bind",
    "adopt",
    "read_source",
    "remove_source",
    "wake",
)
PARTS = (
    *("base", "clock", "deliveries", "leases", "record", "attempts", "hand_ons"),
    *("places", "queueing", "moves", "flow", "gates", "due", "source"),
)
PREFIXES: Mapping[str, type[Enum]] = {
    "STATUS": LeaseStatus,
    "PUT": PutCode,
    "ACTION": AckAction,
    "STATE": MessageState,
    "STRAY": StrayKind,
    "EVENT": EventKind,
    "UNIQUE": message.UniqueMode,
    "RESULT": StoreCode,
}
"""`STATUS_DONE` in a script is `LeaseStatus.DONE`."""
NEWER_QUEUE = "NEWERQUEUE"
"""The error of a script for a queue of a newer format begins with this word; the queue and its format follow."""
CONSTANTS: Mapping[str, str | int | list[str]] = {
    **{f"{prefix}_{member.name}": member.value for prefix, enum in PREFIXES.items() for member in enum},
    "HAS_TASK": message.HAS_TASK,
    "HAS_KEY": message.HAS_KEY,
    "HAS_UNIQUE": message.HAS_UNIQUE,
    "HAS_LIMIT": message.HAS_LIMIT,
    "HAS_ETA": message.HAS_ETA,
    "HAS_FLOW": message.HAS_FLOW,
    "TASK_LIMIT": TASK_LIMIT,
    "BODY_KNOWN": message.BODY_KNOWN,
    "SPAN": message.SPAN,
    "FORMAT": message.FORMAT,
    "FORMAT_STEP": message.FORMAT_STEP,
    "QUEUE_FORMAT": message.QUEUE_FORMAT,
    "NEWER_QUEUE": NEWER_QUEUE,
    "EPOCH_US": message.EPOCH_MS * 1000,
    "TICK_US": 1000 // message.TICKS_PER_MS,
    "LARGE": message.LARGE,
    "FETCH_BYTES": message.FETCH_BYTES,
    "NAMES": list(NAMES),
}
_USES = "-- uses:"
_CALLS = "-- calls:"
_COMMENT_OR_CAPITALS = re.compile(r"--.*|\b[A-Z][A-Z_]+\b")
_DECLARED = re.compile(r"^ *local ([A-Z][A-Z_]+) = ([\w+*/() ]+?)(?: --.*)?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """The complete text of one operation, and the hash under which the server keeps it."""

    name: str
    text: str
    sha: bytes


@cache
def load_scripts(*, clock: str | None = None) -> Mapping[str, Script]:
    """All operations by name. `clock`: Lua text that defines `clock()` instead of `lib/clock.lua`, for tests."""
    parts = {part: _read(f"lib/{part}") for part in PARTS}
    if clock is not None:
        parts["clock"] = clock
    texts = {name: _with_parts(_read(name), parts) for name in OPERATIONS}
    return {name: make_script(name, _with_called(text, texts)) for name, text in texts.items()}


def load_script(name: str) -> Script:
    """Load a script that uses no parts of `scripts/lib` and does not work on a queue."""
    return make_script(name, _read(name))


def make_script(name: str, text: str) -> Script:
    """Make a script of this text, with the values of the constants that it uses and declares."""
    values = {constant: _lua_literal(value) for constant, value in CONSTANTS.items()}
    for constant, value in _DECLARED.findall(text):
        values[constant] = f"({_with_values(value, values)})"
    text = _with_values(_DECLARED.sub("", text), values)
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest().encode())


def _read(name: str) -> str:
    return resources.files("laneway.engine").joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8")


def _with_parts(body: str, parts: Mapping[str, str]) -> str:
    lines: list[str] = []
    for line in body.splitlines():
        lines.append(line)
        if line.strip().startswith(_USES):
            used = line.strip().removeprefix(_USES).split()
            lines += [_with_parts(parts[part], parts) for part in used]
    return "\n".join(lines)


def _with_called(body: str, texts: Mapping[str, str]) -> str:
    lines: list[str] = []
    for line in body.splitlines():
        lines.append(line)
        if line.startswith(_CALLS):
            called = line.removeprefix(_CALLS).strip()
            lines.append(f"local function {called}(KEYS, ARGV)\n{make_script(called, texts[called]).text}\nend")
    return "\n".join(lines)


def _with_values(text: str, values: Mapping[str, str]) -> str:
    return _COMMENT_OR_CAPITALS.sub(lambda found: values.get(found[0], found[0]), text)


def _lua_literal(value: str | int | list[str]) -> str:
    if isinstance(value, list):
        return f"{{ {', '.join(map(_lua_literal, value))} }}"
    return f"'{value}'" if isinstance(value, str) else str(int(value))
