"""People log in at a real provider, work in a session, and log out."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from urllib.parse import quote, urlsplit

import httpx2
import pytest
from starlette.testclient import TestClient

from laneway.platform.access.logins import OVERLAP
from laneway.platform.access.scopes import Scope
from laneway.platform.db.queries.audit_log import AuditLogFilter
from laneway.testing.clock import Clock
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import REPORT, Api
from tests.fixtures.oidc_provider import CLIENT, CLIENT_SECRET, OidcProvider, oidc_provider, started_provider

__all__ = ["oidc_provider", "started_provider"]

ROLES = {"ROLE_VIEWERS": "staff", "ROLE_OPERATORS": "ops", "ROLE_ADMINS": "root@example.com"}
SUBMIT = {"name": REPORT, "payload": {"hours": 1}}


@pytest.fixture
def known(make_api: MakeApi, oidc_provider: OidcProvider) -> Api:
    """The API with a provider."""
    return make_api(
        OIDC_ISSUER=oidc_provider.url,
        OIDC_CLIENT_ID=CLIENT,
        OIDC_CLIENT_SECRET=CLIENT_SECRET,
        FLOWER_PUBLIC_URL="http://127.0.0.1:5555",
        **ROLES,
    )


def log_in(api: Api, target: str = "/tasks") -> httpx2.Response:
    """Follow the links of a login as a browser does; returns the answer to the provider's redirect."""
    page = api.http.get(f"/login?next={quote(target, safe='')}")
    link = re.search(r'href="(/login/start[^"]*)"', page.text)
    assert link, page.text
    begun = api.http.get(unescape(link[1]), follow_redirects=False)
    assert begun.status_code == 303
    back = urlsplit(httpx2.get(begun.headers["location"], trust_env=False).headers["location"])
    return api.http.get(f"{back.path}?{back.query}", follow_redirects=False)  # pyright: ignore[reportReturnType]


def confirm(api: Api) -> httpx2.Response:
    """Go to the provider and back, without a page in between."""
    begun = api.http.get("/login/start?next=%2Ftasks", follow_redirects=False)
    back = urlsplit(httpx2.get(begun.headers["location"], trust_env=False).headers["location"])
    return api.http.get(f"{back.path}?{back.query}", follow_redirects=False)  # pyright: ignore[reportReturnType]


def actions(api: Api) -> list[tuple[str, str | None]]:
    """Action and object of the audit log's entries, oldest first."""
    found = api.services.audit_log.page(AuditLogFilter(), limit=100).entries[::-1]
    return [(entry.action, entry.object_id) for entry in found]


def test_a_person_logs_in_works_in_a_session_and_logs_out(known: Api, oidc_provider: OidcProvider) -> None:
    oidc_provider.log_in(sub="17", email="ada@example.com", groups=["ops"])
    assert known.http.get("/tasks").status_code == 401

    done = log_in(known)

    assert (done.status_code, done.headers["location"]) == (303, "/tasks")
    me = known.http.get("/me").json()
    assert (me["kind"], me["name"]) == ("person", "ada@example.com")
    assert Scope.SUBMIT in me["scopes"]
    assert known.http.get("/tasks").status_code == 200
    assert known.http.delete("/tasks?older_than=0", headers={"X-CSRF-Token": me["csrf_token"]}).status_code == 403

    assert known.http.post("/logout", data={"csrf_token": "x"}).status_code == 403
    field = re.search(r'name="csrf_token" value="([^"]+)"', known.http.get("/logout").text)
    assert field
    assert known.http.post("/logout", data={"csrf_token": field[1]}).status_code == 200
    assert known.http.get("/tasks").status_code == 401


def test_a_stolen_cookie_does_not_work_after_the_logout(known: Api, oidc_provider: OidcProvider) -> None:
    oidc_provider.log_in(sub="17", email="ada@example.com", groups=["ops"])
    log_in(known)
    stolen = {"Cookie": f"laneway_session={known.http.cookies['laneway_session']}"}
    token = known.http.get("/me").json()["csrf_token"]
    known.http.post("/logout", data={"csrf_token": token})

    known.http.cookies.clear()
    assert known.http.get("/tasks", headers=stolen).status_code == 401
    write = known.http.post("/tasks", json=SUBMIT, headers={**stolen, "X-CSRF-Token": token})
    assert write.status_code == 401
    assert actions(known) == [("person.login", "ada@example.com"), ("person.logout", "ada@example.com")]


def test_an_operator_ends_all_sessions_of_a_person(known: Api, oidc_provider: OidcProvider) -> None:
    oidc_provider.log_in(sub="17", email="ada@example.com", groups=["ops"])
    log_in(known)
    adas = dict(known.http.cookies)
    known.http.cookies.clear()
    oidc_provider.log_in(sub="1", email="root@example.com")
    log_in(known)
    admin = {"X-CSRF-Token": known.http.get("/me").json()["csrf_token"]}
    shown = known.http.get("/sessions").json()["sessions"]
    assert [(each["person"], each["role"], each["confirmed"]) for each in shown] == [
        ("root@example.com", "admin", True),
        ("ada@example.com", "operator", True),
    ]

    ended = known.http.post("/sessions/end", json={"person": "ada@example.com"}, headers=admin)

    assert ended.json() == {"person": "ada@example.com", "ended": 1}
    assert known.http.get("/tasks").status_code == 200
    known.http.cookies.clear()
    known.http.cookies.update(adas)
    assert known.http.get("/tasks").status_code == 401
    last = known.services.audit_log.page(AuditLogFilter()).entries[0]
    assert (last.action, last.object_id, last.caller) == ("person.end_sessions", "ada@example.com", "root@example.com")


def test_a_role_that_the_provider_takes_away_ends_within_the_stated_time(
    known: Api, oidc_provider: OidcProvider
) -> None:
    oidc_provider.log_in(sub="17", email="ada@example.com", groups=["ops"])
    time = Clock()
    with time.installed():
        log_in(known)
        csrf = known.http.get("/me").json()["csrf_token"]
        time.move(timedelta(minutes=31))
        waiting = known.http.get("/tasks?limit=3", headers={"Accept": "text/html"}, follow_redirects=False)
        assert known.http.get("/tasks").status_code == 401
        assert (waiting.status_code, waiting.headers["location"]) == (303, "/login/start?next=%2Ftasks%3Flimit%3D3")

        assert confirm(known).headers["location"] == "/tasks"
        me = known.http.get("/me").json()
        assert Scope.SUBMIT in me["scopes"]
        again = known.http.post("/tasks", json=SUBMIT, headers={"X-CSRF-Token": csrf})
        assert again.status_code == 202, "an open page goes on to work"

        oidc_provider.log_in(sub="17", email="ada@example.com", groups=["staff"])
        time.move(timedelta(minutes=31))
        confirm(known)
        assert known.http.get("/me").json()["scopes"] == [Scope.READ]

        oidc_provider.log_in(sub="17", email="ada@example.com", groups=[])
        time.move(timedelta(minutes=31))
        assert confirm(known).status_code == 403
        assert known.http.get("/tasks").status_code == 401
    assert [action for action, _ in actions(known)] == ["person.login", "person.role", "person.refuse"]


def test_a_cookie_that_was_stolen_before_the_provider_confirmed_the_session_opens_nothing(
    known: Api, oidc_provider: OidcProvider
) -> None:
    oidc_provider.log_in(sub="17", email="ada@example.com", groups=["ops"])
    time = Clock()
    with time.installed():
        log_in(known)
        stolen = known.http.cookies["laneway_session"]
        csrf = known.http.get("/me").json()["csrf_token"]
        time.move(timedelta(minutes=31))
        confirm(known)
        own = known.http.cookies["laneway_session"]
        assert own != stolen
        time.move(OVERLAP)

        known.http.cookies.clear()
        thief = {"Cookie": f"laneway_session={stolen}", "X-CSRF-Token": csrf}
        assert known.http.get("/tasks", headers=thief).status_code == 401
        assert known.http.post("/tasks", json=SUBMIT, headers=thief).status_code == 401
        known.http.post("/logout", headers=thief)
        assert known.http.get("/tasks", headers={"Cookie": f"laneway_session={own}"}).status_code == 200
    assert actions(known) == [("person.login", "ada@example.com")]


def test_a_browser_without_a_session_is_led_to_the_login_and_a_program_is_not(known: Api) -> None:
    page = known.http.get("/docs", headers={"Accept": "text/html,*/*"}, follow_redirects=False)
    token = {"Accept": "text/html", "Authorization": "Bearer x"}

    assert (page.status_code, page.headers["location"]) == (303, "/login?next=%2Fdocs")
    assert known.http.get("/docs", headers=token, follow_redirects=False).status_code == 401
    assert known.http.get("/docs", follow_redirects=False).status_code == 401
    assert known.http.post("/tasks", json={}, headers={"Accept": "text/html"}).status_code == 401


def test_a_write_in_a_session_needs_the_token_of_that_session(known: Api, oidc_provider: OidcProvider) -> None:
    oidc_provider.log_in(sub="17", email="ada@example.com", groups=["ops"])
    log_in(known)
    other = known.http.get("/me").json()["csrf_token"]
    known.http.cookies.clear()
    log_in(known)

    for headers in ({}, {"X-CSRF-Token": "x"}, {"X-CSRF-Token": other}):
        refused = known.http.post("/tasks", json=SUBMIT, headers=headers)
        assert (refused.status_code, refused.json()["title"]) == (403, "CSRF token missing")
    token = known.http.get("/me").json()["csrf_token"]
    assert known.http.post("/tasks", json=SUBMIT, headers={"X-CSRF-Token": token}).status_code == 202


def test_a_viewer_reads_and_somebody_without_a_role_gets_no_session(known: Api, oidc_provider: OidcProvider) -> None:
    oidc_provider.log_in(sub="18", email="bob@example.com", groups=["staff"])
    log_in(known)
    me = known.http.get("/me").json()
    assert me["scopes"] == [Scope.READ]
    refused = known.http.post("/tasks", json=SUBMIT, headers={"X-CSRF-Token": me["csrf_token"]})
    assert refused.status_code == 403

    known.http.cookies.clear()
    oidc_provider.log_in(sub="20", email="<b>@example.com", groups=["staff"])
    log_in(known)
    assert "You are &lt;b&gt;@example.com." in known.http.get("/logout").text

    known.http.cookies.clear()
    oidc_provider.log_in(sub="19", email="<eve>@example.com", groups=["others"])
    stranger = log_in(known)
    assert stranger.status_code == 403
    assert "&lt;eve&gt;@example.com has no role here" in stranger.text
    assert known.http.get("/tasks").status_code == 401


def test_the_cookie_is_kept_from_scripts_and_from_writes_of_other_sites(
    known: Api, oidc_provider: OidcProvider
) -> None:
    oidc_provider.log_in(sub="17", email="ada@example.com", groups=["ops"])

    cookies = log_in(known).headers.get_list("set-cookie")

    session = next(cookie for cookie in cookies if cookie.startswith("laneway_session="))
    assert {"httponly", "samesite=lax", "path=/", "max-age=43200"} <= {
        part.strip().lower() for part in session.split(";")
    }


def test_behind_https_the_cookies_are_sent_encrypted_only(make_api: MakeApi, oidc_provider: OidcProvider) -> None:
    api = make_api(
        OIDC_ISSUER=oidc_provider.url,
        OIDC_CLIENT_ID=CLIENT,
        OIDC_CLIENT_SECRET=CLIENT_SECRET,
        PUBLIC_URL="https://tasks.example.com/",
        **ROLES,
    )

    begun = api.http.get("/login/start", headers={"Host": "tasks.example.com"}, follow_redirects=False)

    assert begun.headers["set-cookie"].startswith("__Host-laneway_session_login=")
    assert "; secure" in begun.headers["set-cookie"].lower()
    assert quote("https://tasks.example.com/login/callback", safe="") in begun.headers["location"]


def test_a_login_leads_to_no_foreign_page(known: Api, oidc_provider: OidcProvider) -> None:
    oidc_provider.log_in(sub="17", email="ada@example.com", groups=["ops"])
    foreign = ("//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/\t/evil.example")

    for target in (*foreign, "http://127.0.0.1:5555.evil.example", "http://127.0.0.1:5555@evil.example"):
        assert log_in(known, target).headers["location"] == "/docs", target
        known.http.cookies.clear()
    assert log_in(known, "http://127.0.0.1:5555/tasks").headers["location"] == "http://127.0.0.1:5555/tasks"


def test_an_answer_that_this_browser_did_not_ask_for_starts_no_session(known: Api) -> None:
    for query in ("code=x&state=y", "error=access_denied&state=y", ""):
        answer = known.http.get(f"/login/callback?{query}", follow_redirects=False)
        assert answer.status_code == 403
        assert "was not begun in this browser" in answer.text
        assert not any(cookie == "laneway_session" for cookie in known.http.cookies)


def test_a_proxy_logs_people_in_and_their_writes_need_a_token_too(make_api: MakeApi) -> None:
    api = make_api(PROXY_ADDRESSES="10.1.0.0/16", PROXY_USER_HEADER="X-User", **ROLES)
    ada = {"X-User": "root@example.com"}

    def at(address: str) -> TestClient:
        return TestClient(api.http.app, base_url="http://localhost", client=(address, 4711))

    assert at("10.2.0.1").get("/tasks", headers=ada).status_code == 401
    proxy = at("10.1.0.1")
    assert proxy.get("/tasks").status_code == 401
    me = proxy.get("/me", headers=ada).json()
    assert (me["name"], me["scopes"]) == ("root@example.com", ["admin"])
    assert proxy.post("/tasks", json=SUBMIT, headers=ada).status_code == 403
    assert proxy.post("/tasks", json=SUBMIT, headers={**ada, "X-CSRF-Token": me["csrf_token"]}).status_code == 202
    assert "logs people in" in proxy.get("/login").text


def test_without_people_the_login_says_which_settings_are_missing(make_api: MakeApi) -> None:
    api = make_api(AUTHENTICATION="on")

    assert "OIDC_ISSUER" in api.http.get("/login").text
    assert api.http.get("/login/start", follow_redirects=False).status_code == 200
    assert api.http.get("/me").status_code == 401
