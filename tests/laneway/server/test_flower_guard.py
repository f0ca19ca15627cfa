"""Who may see Flower, and who may change something with it: by a request alone, without a running Flower."""

from __future__ import annotations

from base64 import b64encode
from types import SimpleNamespace
from typing import Any, cast

import pytest
from flower.api.tasks import TaskAsyncApply, TaskSend
from flower.views.tasks import TasksDataTable
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.web import Application, HTTPError

from laneway.platform.access.caller import Caller
from laneway.platform.access.scopes import Scope
from laneway.server.flower_guard import FlowerGuard
from laneway.server.flower_login import FILE
from tests.laneway.server.conftest import MakeSettings

PASSWORD = "open sesame, open"


class Connection:
    """What a request needs of its connection."""

    context = None

    def set_close_callback(self, callback: Any) -> None: ...


class Flower(Application):
    """Flower, as far as its handlers need it."""

    options = SimpleNamespace(basic_auth="", auth="")


def handler(kind: type[Any], *, method: str = "POST", password: str | None = PASSWORD, **headers: str) -> Any:
    """A handler of Flower with a request, by the user of Flower."""
    given = HTTPHeaders({"Host": "localhost", **{name.replace("_", "-"): text for name, text in headers.items()}})
    if password is not None:
        given["Authorization"] = f"Basic {b64encode(f'ann:{password}'.encode()).decode()}"
    line = RequestStartLine(method, "/api/task", "HTTP/1.1")
    request = HTTPServerRequest(headers=given, connection=cast("Any", Connection()), start_line=line)
    return kind(Flower(), request)


@pytest.mark.parametrize("kind", [TaskAsyncApply, TaskSend])
def test_nobody_submits_a_task_by_flower_unless_writes_are_allowed(make_settings: MakeSettings, kind: type) -> None:
    """Flower itself does not refuse these although it only reads."""
    guard = FlowerGuard(make_settings(FLOWER_USER="ann", FLOWER_PASSWORD=PASSWORD))

    with pytest.raises(HTTPError, match="Flower only reads here") as refused:
        guard.check(handler(kind))
    assert refused.value.status_code == 403
    guard.check(handler(TasksDataTable))  # its POST only reads


@pytest.mark.parametrize(
    ("password", "headers", "status"),
    [
        (None, {}, 401),
        ("", {}, 401),
        (PASSWORD[:-1], {}, 401),
        ("grüße", {}, 401),
        (PASSWORD * 100, {}, 401),
        (PASSWORD, {"Sec_Fetch_Site": "cross-site"}, 403),
        (PASSWORD, {"Sec_Fetch_Site": "same-site", "Origin": "http://localhost"}, 403),
        (PASSWORD, {"Origin": "https://evil.example"}, 403),
        (PASSWORD, {"Origin": "null"}, 403),
    ],
)
def test_a_write_needs_the_password_and_no_other_page(
    make_settings: MakeSettings, password: str | None, headers: dict[str, str], status: int
) -> None:
    guard = FlowerGuard(make_settings(FLOWER_USER="ann", FLOWER_PASSWORD=PASSWORD, FLOWER_ALLOW_WRITES="true"))

    with pytest.raises(HTTPError) as refused:
        guard.check(handler(TaskSend, password=password, **headers))
    assert refused.value.status_code == status


def test_with_people_there_is_no_generated_password(make_settings: MakeSettings) -> None:
    provider = {"OIDC_ISSUER": "https://login.example", "OIDC_CLIENT_ID": "us", "OIDC_CLIENT_SECRET": "not-used-here"}
    settings = make_settings(**provider, ROLE_VIEWERS="staff")
    guard = FlowerGuard(settings)

    assert not (settings.storage.folder / FILE).exists()
    with pytest.raises(HTTPError) as refused:
        guard.check(handler(TaskSend))
    assert refused.value.status_code == 401


@pytest.mark.parametrize(
    ("scopes", "method", "told"),
    [
        ((), "GET", "may not read here"),
        ((Scope.OPERATE,), "GET", "may not read here"),
        ((Scope.READ,), "POST", "may only read"),
    ],
)
def test_a_caller_needs_the_scope_of_what_it_does(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, scopes: tuple[str, ...], method: str, told: str
) -> None:
    guard = FlowerGuard(make_settings(FLOWER_PASSWORD=PASSWORD, FLOWER_ALLOW_WRITES="true"))
    caller = Caller(kind="person", name="ada", scopes=frozenset(scopes))
    monkeypatch.setattr(guard, "_caller", lambda _: caller)

    with pytest.raises(HTTPError, match=told) as refused:
        guard.check(handler(TaskSend, method=method, Sec_Fetch_Site="same-origin"))
    assert refused.value.status_code == 403
