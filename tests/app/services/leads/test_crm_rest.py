"""The REST connector against a real HTTP server: its requests, and its error for each response."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from app.core.settings import CrmSettings, load_settings
from app.services.leads.crm import CrmConflict, CrmLead, CrmMissing, CrmRefused, CrmUnreadable, RestCrm
from laneway.platform.errors import ConfigError, PlatformError, UpstreamError
from tests.fixtures.http_peer import HttpPeer, HttpReply
from tests.fixtures.platform import Environment
from tests.fixtures.valkey import free_port

TOKEN = "token/4711+x"
DATA: dict[str, Any] = {
    "lead_id": "lead-1",
    "version": 3,
    "source": "google",
    "name": "Ada",
    "email": "ada@example.com",
    "phone": None,
    "fields": {"campaign": "spring", "BUDGET": 5},
    "details": {"form_id": 7},
}
LEAD = CrmLead("uid", 3, DATA)


@pytest.fixture(autouse=True)
def _clean(environment: Environment) -> None:
    """Ignore the settings of this machine."""


@pytest.fixture
def peer() -> Iterator[HttpPeer]:
    with HttpPeer() as running:
        yield running


def crm(peer: HttpPeer, **more: Any) -> RestCrm:
    given = {"CRM_BASE_URL": f"{peer.url}/api/", "CRM_TOKEN": TOKEN, "CRM_TIMEOUT_SECONDS": 2, **more}
    return RestCrm(CrmSettings.model_validate(given))


def test_without_a_mapping_all_known_fields_are_sent_under_our_names(peer: HttpPeer) -> None:
    peer.reply_with(HttpReply(201, body={"id": 17}))
    id = crm(peer).create(LEAD, key="key-1")

    (asked,) = peer.requests
    assert (id, asked.method, asked.path) == ("17", "POST", "/api/leads")
    assert asked.json() == {name: value for name, value in DATA.items() if value is not None}
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    assert asked.headers["idempotency-key"] == "key-1"
    assert asked.headers["content-type"] == "application/json"


def test_requests_follow_the_settings(peer: HttpPeer) -> None:
    mapping = {
        "name": "full_name",
        "email": "properties.email",
        "fields.campaign": "properties.utm",
        "phone": "tel",
        "version": "rev",
        "details.form_id": "properties.form",
    }
    own = crm(
        peer,
        CRM_AUTH_HEADER="X-Api-Key: key={token}",
        CRM_CREATE_REQUEST="POST /contacts/new",
        CRM_UPDATE_REQUEST="PUT /contacts/{id}/all",
        CRM_ID_PATH="data.0.key",
        CRM_FIELD_MAPPING=json.dumps(mapping),
    )
    peer.reply_with(HttpReply(200, body={"data": [{"key": "a b/c"}]}), HttpReply(204))
    id = own.create(LEAD, key="k")
    own.update(id, LEAD, key="k")

    created, updated = peer.requests
    assert (created.path, created.headers["x-api-key"]) == ("/api/contacts/new", f"key={TOKEN}")
    assert created.json() == {
        "full_name": "Ada",
        "rev": 3,
        "properties": {"email": "ada@example.com", "utm": "spring", "form": 7},
    }
    assert (updated.method, updated.path) == ("PUT", "/api/contacts/a%20b%2Fc/all")
    assert updated.json() == {**created.json(), "tel": None}


def test_without_a_token_no_authorization_is_sent(peer: HttpPeer) -> None:
    peer.reply_with(HttpReply(201, body={"id": "x"}))
    crm(peer, CRM_TOKEN=None).create(LEAD, key="k")

    assert "authorization" not in peer.requests[0].headers


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_temporary_error_is_retryable_after_the_crms_delay(peer: HttpPeer, status: int) -> None:
    peer.reply_with(HttpReply(status, {"Retry-After": "7"}, "busy"), HttpReply(status))

    with pytest.raises(UpstreamError, match=rf"The CRM failed: it answered {status} \(busy\)") as passing:
        crm(peer).update("1", LEAD, key="k")
    with pytest.raises(UpstreamError) as silent:
        crm(peer).create(LEAD, key="k")

    assert (passing.value.retry_after, silent.value.retry_after) == (7, None)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (HttpReply(400, body={"error": "email is not valid"}), "email is not valid"),
        (HttpReply(422, body="\x00bad\r\nname\x1b[31m"), "it answered 422 (bad name [31m)"),
        (HttpReply(401), "check CRM_TOKEN"),
        (HttpReply(403, body="no scope"), "check CRM_TOKEN and its permissions"),
        (HttpReply(405), "check CRM_CREATE_REQUEST"),
        (HttpReply(302, {"Location": "http://127.0.0.1:1/"}), "redirects are not followed, check CRM_BASE_URL"),
    ],
)
def test_any_other_response_is_a_permanent_error_with_its_reason(peer: HttpPeer, answer: HttpReply, told: str) -> None:
    peer.reply_with(answer, answer)
    for call in (lambda: crm(peer).create(LEAD, key="k"), lambda: crm(peer).update("1", LEAD, key="k")):
        with pytest.raises(CrmRefused) as refused:
            call()
        assert told in str(refused.value)
        assert not refused.value.retryable


def test_a_missing_path_is_not_a_missing_record(peer: HttpPeer) -> None:
    peer.reply_with(HttpReply(404), HttpReply(404), HttpReply(410))

    with pytest.raises(CrmRefused, match="check CRM_BASE_URL and CRM_CREATE_REQUEST"):
        crm(peer).create(LEAD, key="k")
    for _ in range(2):
        with pytest.raises(CrmMissing):
            crm(peer).update("1", LEAD, key="k")


def test_a_conflict_names_the_existing_record(peer: HttpPeer) -> None:
    peer.reply_with(HttpReply(409, body={"id": "old-1", "error": "exists"}), HttpReply(409, body="locked"))

    with pytest.raises(CrmConflict) as known:
        crm(peer).create(LEAD, key="k")
    with pytest.raises(CrmConflict, match="409: locked") as unknown:
        crm(peer).create(LEAD, key="k")

    assert (known.value.existing, unknown.value.existing) == ("old-1", None)
    assert known.value.retryable and unknown.value.retryable
    assert "set CRM_SEARCH_REQUEST" in str(unknown.value)


SENTENCE = {"message": "Contact already exists. Existing ID: 5512", "category": "CONFLICT"}


def test_a_conflict_names_the_existing_record_in_its_sentence(peer: HttpPeer) -> None:
    own = {"CRM_CONFLICT_ID_PATTERN": r"duplicate of #([0-9]+)"}
    peer.reply_with(HttpReply(409, body=SENTENCE), HttpReply(409, body="A duplicate of #77."))
    found: list[str | None] = []
    for connector in (crm(peer), crm(peer, **own)):
        with pytest.raises(CrmConflict) as conflict:
            connector.create(LEAD, key="k")
        found.append(conflict.value.existing)

    assert found == ["5512", "77"]


def test_a_conflict_of_an_update_names_no_record(peer: HttpPeer) -> None:
    peer.reply_with(HttpReply(409, body=SENTENCE))
    with pytest.raises(CrmConflict) as conflict:
        crm(peer, CRM_SEARCH_REQUEST="GET /contacts?email={email}").update("1", LEAD, key="k")

    assert conflict.value.existing is None
    assert len(peer.requests) == 1


def test_the_existing_record_is_searched_for(peer: HttpPeer) -> None:
    peer.reply_with(HttpReply(409, body="exists"), HttpReply(200, body={"results": [{"id": 5512}]}))
    lead = CrmLead("uid", 3, {**DATA, "email": "ada+b&c@example.com"})
    with pytest.raises(CrmConflict) as conflict:
        crm(peer, CRM_SEARCH_REQUEST="GET /contacts?q={email}&campaign={fields.campaign}").create(lead, key="k")

    asked = peer.requests[1]
    assert conflict.value.existing == "5512"
    assert (asked.method, asked.body) == ("GET", b"")
    assert asked.path == "/api/contacts?q=ada%2Bb%26c%40example.com&campaign=spring"
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    assert "idempotency-key" not in asked.headers


def test_a_search_can_be_a_post_with_a_body(peer: HttpPeer) -> None:
    template = {"filters": [{"property": "email", "value": "{email}"}], "limit": 2, "from": "{lead_id}/{version}"}
    peer.reply_with(HttpReply(409), HttpReply(200, body={"data": {"hits": [{"key": "r-1"}, {"key": "r-1"}]}}))
    own = crm(
        peer,
        CRM_SEARCH_REQUEST="POST /contacts/search",
        CRM_SEARCH_BODY=json.dumps(template),
        CRM_SEARCH_ID_PATH="data.hits.0.key",
    )
    with pytest.raises(CrmConflict) as conflict:
        own.create(LEAD, key="k")

    assert conflict.value.existing == "r-1"
    filters = [{"property": "email", "value": "ada@example.com"}]
    assert peer.requests[1].json() == {"filters": filters, "limit": 2, "from": "lead-1/3"}


@pytest.mark.parametrize(
    ("data", "reply", "told"),
    [
        ({"email": None}, None, "the lead has no email to search for"),
        ({}, HttpReply(200, body={"results": []}), "finds no record at CRM_SEARCH_ID_PATH"),
        ({}, HttpReply(200, body={"results": [{"id": 1}, {"id": 2}]}), "finds several records"),
    ],
)
def test_without_one_record_found_the_conflict_says_why(
    peer: HttpPeer, data: dict[str, Any], reply: HttpReply | None, told: str
) -> None:
    peer.reply_with(HttpReply(409, body="exists"), *([reply] if reply else []))
    with pytest.raises(CrmConflict, match=told) as conflict:
        crm(peer, CRM_SEARCH_REQUEST="GET /contacts?q={email}").create(CrmLead("uid", 3, {**DATA, **data}), key="k")

    assert conflict.value.existing is None


def test_a_search_that_fails_raises_its_own_error(peer: HttpPeer) -> None:
    own = crm(peer, CRM_SEARCH_REQUEST="GET /contacts?q={email}")
    peer.reply_with(HttpReply(409), HttpReply(503), HttpReply(409), HttpReply(404))

    with pytest.raises(UpstreamError, match="503"):
        own.create(LEAD, key="k")
    with pytest.raises(CrmRefused, match="check CRM_SEARCH_REQUEST"):
        own.create(LEAD, key="k")


@pytest.mark.parametrize(
    "body",
    [
        "",
        "fine",
        "[]",
        "{}",
        {"id": None},
        {"id": True},
        {"id": {"a": 1}},
        {"id": ""},
        {"id": "x" * 201},
        {"id": "a\nb"},
        {"id": 1.5},
        "[" * 60_000,
    ],
)
def test_a_response_without_an_id_names_the_setting_of_its_path(peer: HttpPeer, body: Any) -> None:
    peer.reply_with(HttpReply(201, body=body))

    with pytest.raises(CrmUnreadable, match=r"no id is at CRM_ID_PATH \(id\)"):
        crm(peer).create(LEAD, key="k")


@pytest.mark.parametrize("status", [400, 409, 503])
def test_a_token_in_the_response_is_not_shown(peer: HttpPeer, status: int) -> None:
    peer.reply_with(
        HttpReply(status, body=f"the token {TOKEN} or " + TOKEN.replace("/", "\\/") + " is wrong " + "x" * 100_000)
    )

    with pytest.raises(PlatformError) as refused:
        crm(peer).create(LEAD, key="k")

    assert TOKEN not in str(refused.value)
    assert len(str(refused.value)) < 450


@pytest.mark.parametrize(
    "answer", [HttpReply(delay=9), HttpReply(201, body={"id": "1"}, stall_after=3), HttpReply(hang_up=True)]
)
def test_an_incomplete_response_is_retryable(peer: HttpPeer, answer: HttpReply) -> None:
    peer.reply_with(answer)

    with pytest.raises(UpstreamError, match="The CRM failed"):
        crm(peer, CRM_TIMEOUT_SECONDS=0.3).create(LEAD, key="k")


def test_an_unreachable_crm_is_retryable() -> None:
    own = RestCrm(CrmSettings.model_validate({"CRM_BASE_URL": f"http://127.0.0.1:{free_port()}"}))

    with pytest.raises(UpstreamError, match="The CRM failed: the connection was refused"):
        own.create(LEAD, key="k")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"CRM_TOKEN": "t"}, ["CRM_TOKEN", "CRM_BASE_URL"]),
        ({"CRM_FIELD_MAPPING": '{"name": "n"}'}, ["CRM_FIELD_MAPPING", "CRM_BASE_URL"]),
        ({"CRM_BASE_URL": "ftp://x"}, ["CRM_BASE_URL"]),
        ({"CRM_BASE_URL": "https://me:secret-1@x"}, ["CRM_BASE_URL", "CRM_TOKEN"]),
        ({"CRM_BASE_URL": "https://x", "CRM_TOKEN": "secret-1\n"}, ["CRM_TOKEN"]),
        ({"CRM_BASE_URL": "https://x", "CRM_UPDATE_REQUEST": "PATCH /leads"}, ["CRM_UPDATE_REQUEST"]),
        ({"CRM_BASE_URL": "https://x", "CRM_CREATE_REQUEST": "DELETE /leads"}, ["CRM_CREATE_REQUEST"]),
        ({"CRM_BASE_URL": "https://x", "CRM_AUTH_HEADER": "Bearer"}, ["CRM_AUTH_HEADER"]),
        ({"CRM_BASE_URL": "https://x", "CRM_FIELD_MAPPING": '{"a": "x", "b": "x.y"}'}, ["CRM_FIELD_MAPPING", "'x'"]),
        ({"CRM_BASE_URL": "https://x", "CRM_FIELD_MAPPING": '{"a": "x", "b": "x"}'}, ["CRM_FIELD_MAPPING", "'x'"]),
        ({"CRM_BASE_URL": "https://x", "CRM_FIELD_MAPPING": "name=n"}, ["CRM_FIELD_MAPPING"]),
        ({"CRM_SEARCH_REQUEST": "GET /a?q={email}"}, ["CRM_SEARCH_REQUEST", "CRM_BASE_URL"]),
        ({"CRM_BASE_URL": "https://x", "CRM_SEARCH_REQUEST": "GET /all"}, ["CRM_SEARCH_REQUEST", "{email}"]),
        ({"CRM_BASE_URL": "https://x", "CRM_SEARCH_BODY": '{"q": "{email}"}'}, ["CRM_SEARCH_BODY"]),
        ({"CRM_CONFLICT_ID_PATTERN": "ID ([0-9]+"}, ["CRM_CONFLICT_ID_PATTERN"]),
        ({"CRM_CONFLICT_ID_PATTERN": "ID [0-9]+"}, ["CRM_CONFLICT_ID_PATTERN", "group"]),
        ({"CRM_NOTIFY_TO": "a@b.example"}, ["CRM_NOTIFY_TO", "SMTP_HOST"]),
        ({"SMTP_HOST": "mail"}, ["SMTP_HOST", "MAIL_FROM"]),
        ({"SMTP_TLS": "true", "SMTP_STARTTLS": "true"}, ["SMTP_TLS", "SMTP_STARTTLS"]),
        ({"SMTP_USER": "me"}, ["SMTP_USER", "SMTP_PASSWORD"]),
        (
            {"SMTP_HOST": "mail", "MAIL_FROM": "a@b", "SMTP_USER": "me", "SMTP_PASSWORD": "secret-1"},
            ["SMTP_PASSWORD", "SMTP_STARTTLS"],
        ),
        ({"MAIL_FROM": "Me <me@x.example>"}, ["MAIL_FROM"]),
        ({"SMTP_HOST": "mail", "MAIL_FROM": "a@b", "CRM_NOTIFY_TO": "a@b.example, c\r\nBcc: x@y"}, ["CRM_NOTIFY_TO"]),
    ],
)
def test_impossible_settings_are_refused_by_name(
    environment: Environment, given: dict[str, str], named: list[str]
) -> None:
    environment(**given)
    with pytest.raises(ConfigError) as refused:
        load_settings()

    assert all(name in str(refused.value) for name in named)
    assert "secret-1" not in str(refused.value)
