"""A change as one line."""

from __future__ import annotations

from laneway._changes import change


def test_only_what_has_changed_is_told() -> None:
    assert change({"paused": False, "rate": 5}, {"paused": True, "rate": 5}) == "paused false → true"
    assert change(None, {"scopes": ["admin"], "tenant": None}) == 'scopes ["admin"], tenant null'
    assert change({"sessions": 2}, None) == "sessions 2"
    assert change(None, None) == ""


def test_a_change_is_one_line() -> None:
    assert change(None, {"url": "a\nb\x1b[31m"}) == "url a b\N{REPLACEMENT CHARACTER}[31m"
