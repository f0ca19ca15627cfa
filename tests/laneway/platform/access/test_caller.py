"""The caller of a request."""

from __future__ import annotations

from typing import Any

import pytest

from laneway.platform.access.caller import NOBODY, Caller, acting_as, current_caller
from laneway.platform.access.scopes import Scope


def test_a_caller_may_do_what_its_scopes_say() -> None:
    reader = Caller(kind="token", name="dashboard", scopes=frozenset({Scope.READ}))

    assert (reader.may(Scope.READ), reader.may(Scope.SUBMIT)) == (True, False)


def test_an_admin_may_do_everything() -> None:
    admin = Caller(kind="person", name="ada@example.com", scopes=frozenset({Scope.ADMIN}))

    assert all(map(admin.may, Scope))


@pytest.mark.parametrize(
    "bound", [{"tenant": "acme"}, {"queues": frozenset({"crm"})}, {"names": frozenset({"x"})}, {"names": frozenset()}]
)
def test_a_caller_with_any_limit_is_bound(bound: dict[str, Any]) -> None:
    assert Caller(kind="token", name="shop", **bound).is_bound
    assert not Caller(kind="token", name="shop").is_bound


def test_the_caller_is_that_of_the_innermost_block() -> None:
    ada = Caller(kind="person", name="ada@example.com")

    with acting_as(ada):
        assert current_caller() is ada
    assert current_caller() is NOBODY
