"""What somebody may have meant with a name that does not exist."""

from __future__ import annotations

from collections.abc import Iterable


def suggest(name: str, known: Iterable[str]) -> str:
    """Return the name in quotes and, if a known name is like it, that: `'ad' (did you mean 'add'?)`."""
    from difflib import get_close_matches

    close = get_close_matches(name, list(known), n=1)
    return f"{name!r} (did you mean {close[0]!r}?)" if close else repr(name)
