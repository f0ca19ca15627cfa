"""Says once in the log how far the children of this process are confined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from laneway.platform.logging import logger

log = logger(__name__)
_said: Final[set[str]] = set()


def log_outcome(child: str, missing: Mapping[str, str], still_open: Sequence[str]) -> None:
    """Log what the kernel did not give a kind of child: a warning if doors are open, once per kind and outcome."""
    fact = f"{child}: {sorted(missing.items())} {sorted(still_open)}"
    if not missing or fact in _said:
        return
    _said.add(fact)
    not_given = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
    if still_open:
        log.warning("the kernel does not confine a child wholly", child=child, open=list(still_open), missing=not_given)
    else:
        log.info("a child is confined without all means of the kernel", child=child, missing=not_given)
