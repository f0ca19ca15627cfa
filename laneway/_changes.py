"""What an entry of the audit log says has changed, as one line."""

from __future__ import annotations

import json
from typing import Any

from laneway._printable import one_line


def change(before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
    """What has changed: `paused false → true`; values that stayed are left out."""
    old, new = before or {}, after or {}
    parts: list[str] = []
    for name in dict.fromkeys([*old, *new]):
        if name in old and name in new:
            parts += [f"{name} {_text(old[name])} → {_text(new[name])}"] if old[name] != new[name] else []
        else:
            parts.append(f"{name} {_text(old.get(name, new.get(name)))}")
    return one_line(", ".join(parts))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
