"""Puts each script together from its file and the parts of `scripts/lib` that its header names.

Where a script says `-- uses: base clock record moves` those files are put in; a script may do so twice,
so that its quick way out does not pay for what only the slow way needs. The key names of `keys.py` go
before everything. Production scripts know one clock, the server's. A test that needs to move time
hands in another text for `clock.lua`; nothing in the scripts themselves is there for tests.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources

from laneway.engine.keys import NAMES

OPERATIONS = (
    "put",
    "fetch",
    "ack",
    "begin",
    "conclude",
    "look",
    "report",
    "renew",
    "release",
    "bury",
    "cancel",
    "requeue",
    "discard",
    "limit",
    "find",
    "peek",
    "stats",
    "purge",
    "delete",
)
_USES = "-- uses:"


@dataclass(frozen=True, slots=True)
class Script:
    """One operation's complete text and the hash under which the server keeps it."""

    name: str
    text: str
    sha: bytes


def load_scripts(*, clock: str | None = None) -> dict[str, Script]:
    """All operations by name. `clock`: Lua text defining `clock()` instead of `lib/clock.lua`, for tests."""
    folder = resources.files("laneway.engine").joinpath("scripts")
    parts = {
        part: folder.joinpath("lib", f"{part}.lua").read_text(encoding="utf-8")
        for part in ("base", "clock", "record", "moves")
    }
    if clock is not None:
        parts["clock"] = clock
    return {
        name: _assemble(name, folder.joinpath(f"{name}.lua").read_text(encoding="utf-8"), parts) for name in OPERATIONS
    }


def _assemble(name: str, body: str, parts: dict[str, str]) -> Script:
    names = ", ".join(f"'{name}'" for name in NAMES)
    lines = [f"local NAMES = {{ {names} }}"]
    for line in body.splitlines():
        lines.append(line)
        if line.strip().startswith(_USES):
            lines += [parts[part] for part in line.strip().removeprefix(_USES).split()]
    text = "\n".join(lines)
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest().encode())
