"""The cookie of a session in a request."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from laneway.api.people import cookie_of


@pytest.mark.parametrize(
    ("cookies", "value"),
    [
        (["session=a"], "a"),
        (["other=x; session=a; session_login=y"], "a"),
        (["other=x", "session=a=b"], "a=b"),
        (["session="], ""),
        ([], None),
        (["Session=a"], None),
        (["session=a; session=b"], None),
        (["session=a; session=a"], None),
        (["session=a", "session=b"], None),
    ],
)
def test_a_cookie_of_which_there_are_two_is_none(cookies: list[str], value: str | None) -> None:
    """Another host of the same domain may have set the second one."""
    headers = Headers(raw=[(b"cookie", each.encode()) for each in cookies])

    assert cookie_of(headers, "session") == value
