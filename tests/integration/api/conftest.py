"""The API in two forms: in this process without a worker (`api`), and as processes with a worker (`live`)."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from pydantic import SecretStr
from sqlalchemy import Select, func, select
from starlette.testclient import TestClient

from app.core.config import ROOT, Settings
from app.db.models import Base
from app.db.session import Database
from app.main import create_app
from app.services.container import Services
from app.services.signing import sign_hub
from tests.fixtures.databases import PostgresServer
from tests.fixtures.platform import Environment, celery_on, settings_for
from tests.fixtures.site import Site, running_site
from tests.fixtures.valkey import RedisUrls

APP_SECRET, VERIFY_TOKEN, GOOGLE_KEY = "fb-app-secret-4711", "fb-verify-token-4712", "google-key-4713"
SHOP_SECRET, BANK_SECRET = "shop-secret-4714", "bank-secret-4715"
SECRETS = (APP_SECRET, VERIFY_TOKEN, GOOGLE_KEY, SHOP_SECRET, BANK_SECRET)
CONFIGURED = {
    "FACEBOOK_APP_SECRET": APP_SECRET, "FACEBOOK_VERIFY_TOKEN": VERIFY_TOKEN, "GOOGLE_LEAD_KEY": GOOGLE_KEY,
    "WEBHOOK_SECRETS": json.dumps({"shop": SHOP_SECRET, "bank": {"secret": BANK_SECRET, "header": "X-Bank-Sign"}}),
}  # fmt: skip
SHORT_REPLY_TIMEOUT = 0.4
MAX_BODY = 20_000


@dataclass(frozen=True)
class Api:
    """The application on real servers, and what it has stored."""

    http: TestClient
    services: Services

    @property
    def database(self) -> Database:
        return self.services.database

    def say(self, conversation: str = "conv-1", text: str = "Hello", **more: Any) -> Any:
        """POST one message."""
        return self.http.post("/conversations/message", json={"conversation_id": conversation, "text": text, **more})

    def count(self, *tables: type[Base]) -> int:
        """How many rows these tables have."""
        return sum(self._number(select(func.count()).select_from(table)) for table in tables)

    def queued(self) -> int:
        """How many messages wait at the broker."""
        return sum(self.services.broker.size(queue) for queue in self.services.tasks.queues())

    def _number(self, statement: Select[tuple[int]]) -> int:
        with self.database.reading() as session:
            return session.scalar(statement) or 0


MakeApi = Callable[..., Api]


@pytest.fixture
def make_api(
    environment: Environment, platform_database: Database, redis_urls: RedisUrls, tmp_path: Path
) -> Iterator[MakeApi]:
    """Make the application with settings of the test's choice; once a test."""
    made: list[Any] = []

    def make(*, without: tuple[str, ...] = (), **more: str) -> Api:
        given = {name: value for name, value in CONFIGURED.items() if name not in without}
        given |= {"REPLY_TIMEOUT_SECONDS": str(SHORT_REPLY_TIMEOUT), "MAX_BODY_BYTES": str(MAX_BODY)}
        settings = settings_for(environment, platform_database, redis_urls, folder=tmp_path, **{**given, **more})
        celery = celery_on(settings)
        services = Services(settings, celery.__enter__())
        services.database = platform_database
        made.append(celery)
        return Api(_client(settings, services), services)

    yield make
    for celery in made:
        celery.__exit__(None, None, None)


@pytest.fixture
def api(make_api: MakeApi) -> Api:
    """The application, no worker; on SQLite and on PostgreSQL."""
    return make_api()


def _client(settings: Settings, services: Services) -> TestClient:
    app = create_app(settings)
    app.state.services = services
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """API and worker as processes, with documents to answer from; on SQLite and on PostgreSQL."""
    url = ""
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgresql_server")
        server.run(sql.SQL("CREATE DATABASE api_live"))
        url = server.url("api_live")
    folder = tmp_path_factory.mktemp("live")
    with running_site(folder, database_url=url, MAX_BODY_BYTES=str(MAX_BODY), **CONFIGURED) as site:
        for document in sorted((ROOT / "examples" / "documents").glob("*.md")):
            site.services.knowledge.ingest_file(document)
        site.worker("live")
        site.api()
        yield site


def facebook(body: bytes, *, secret: str = APP_SECRET) -> dict[str, str]:
    """The headers with which Facebook would send this body."""
    return {"X-Hub-Signature-256": sign_hub(body, SecretStr(secret)), "Content-Type": "application/json"}


def signed(body: bytes, *, secret: str = SHOP_SECRET, header: str = "X-Signature-256") -> dict[str, str]:
    """The headers with which a generic source would send this body."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {header: f"sha256={digest}", "Content-Type": "application/json"}


def page_message(mid: str, *, text: str = "Do you repair e-bikes?", sender: str = "2002") -> dict[str, Any]:
    """One entry of a Facebook delivery."""
    return {
        "id": "1001", "time": 1_763_000_000_000,
        "messaging": [{"sender": {"id": sender}, "recipient": {"id": "1001"}, "timestamp": 1_763_000_000_000,
                       "message": {"mid": mid, "text": text}}],
    }  # fmt: skip


def page_events(*entries: dict[str, Any], **dump: Any) -> bytes:
    """A Facebook delivery, as bytes."""
    return json.dumps({"object": "page", "entry": list(entries)}, **dump).encode()


def google_lead(lead: str, **more: Any) -> dict[str, Any]:
    """A Google lead form."""
    return {
        "google_key": GOOGLE_KEY, "lead_id": lead, "form_id": 7, "campaign_id": 8,
        "user_column_data": [{"column_id": "FULL_NAME", "column_name": "Full name", "string_value": "Ada Lovelace"},
                             {"column_id": "EMAIL", "column_name": "E-mail", "string_value": "ada@example.com"}],
        **more,
    }  # fmt: skip


def problem(answer: Any, status: int) -> dict[str, Any]:
    """The problem in an answer, which must be a whole one, and say nothing of our insides."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["status"] == status
    assert found["request_id"] == answer.headers["x-request-id"]
    assert found["title"] and found["detail"] and found["type"] and found["instance"]
    assert not [word for word in (*SECRETS, "Traceback", 'File "', "127.0.0.1", "sqlite", "psycopg") if word in answer.text]
    return found


def close_database(api: Api) -> None:
    """Take the database away from the application: its connections, and the way to new ones."""
    api.services.database = Database("postgresql+psycopg://nobody@127.0.0.1:1/nowhere")


