"""The context of a trace as rows and messages carry it: the two headers of W3C Trace Context.

A row has them in `options`, so they survive the outbox, a crash and the hand-on to another process. Whoever writes to
the database or to the broker may have put anything there, so what is read is checked. Nothing here imports
OpenTelemetry: a process without traces passes the context on as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

CARRIER: Final = "trace"
"""The option of a row with the headers of its trace."""
PARENT: Final = "traceparent"
STATE: Final = "tracestate"
LONGEST_STATE: Final = 512
"""Characters of a `tracestate` that every party must pass on (W3C Trace Context, 3.3.1.5)."""
_PARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_STATE: Final = re.compile(r"[\t -~]+", re.ASCII)


def checked(headers: object) -> dict[str, str]:
    """The headers of the trace among these headers; empty if there are none, or if they are not valid."""
    if not isinstance(headers, Mapping):
        return {}
    given = cast("Mapping[Any, Any]", headers)
    parent, state = given.get(PARENT), given.get(STATE)
    if not isinstance(parent, str) or not _PARENT.fullmatch(parent):
        return {}
    if not isinstance(state, str) or len(state) > LONGEST_STATE or not _STATE.fullmatch(state):
        return {PARENT: parent}
    return {PARENT: parent, STATE: state}


def carrier_of(options: Mapping[str, Any]) -> dict[str, str]:
    """The headers of the trace to which a row belongs, from its options; empty for a row without one."""
    stored = options.get(CARRIER)
    return checked(stored) if stored is not None else {}


def recorded_trace(options: Mapping[str, Any]) -> str | None:
    """The id of the trace to which a row belongs, if that is recorded."""
    parent = carrier_of(options).get(PARENT)
    return parent[3:35] if parent and int(parent[-2:], 16) & 1 else None
