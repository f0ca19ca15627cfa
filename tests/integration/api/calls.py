"""How strangers call the API, and what its answers must be like."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

from celery import Celery
from pydantic import SecretStr
from sqlalchemy import Select, func, select, update
from starlette.testclient import TestClient

from app.core.queues import QUEUES
from app.db.models import Base, TaskRun
from app.db.session import Database
from app.services.container import Services
from app.services.signing import sign_hub
from tests.fixtures.site import Site

APP_SECRET, VERIFY_TOKEN, GOOGLE_KEY = "fb-app-secret-4711", "fb-verify-token-4712", "google-key-4713"
SHOP_SECRET, BANK_SECRET = "shop-secret-4714", "bank-secret-4715"
SECRETS = (APP_SECRET, VERIFY_TOKEN, GOOGLE_KEY, SHOP_SECRET, BANK_SECRET)
CONFIGURED = {
    "FACEBOOK_APP_SECRET": APP_SECRET, "FACEBOOK_VERIFY_TOKEN": VERIFY_TOKEN, "GOOGLE_LEAD_KEY": GOOGLE_KEY,
    "WEBHOOK_SECRETS": json.dumps({"shop": SHOP_SECRET, "bank": {"secret": BANK_SECRET, "header": "X-Bank-Sign"}}),
}  # fmt: skip
INSIDES = ("Traceback", 'File "', "127.0.0.1", "sqlite", "psycopg", "sqlalchemy")
SHORT_REPLY_TIMEOUT = 0.4
REPORT = "generate_performance_report_task"
MESSAGE = "process_conversation_message_task"
MAX_BODY = 20_000


@dataclass(frozen=True)
class Api:
    """The application on real servers, and what it has stored."""

    http: TestClient
    services: Services
    app: Celery

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
        stats = self.services.broker.stats(list(QUEUES))
        return sum(one.waiting for one in stats or ())

    def _number(self, statement: Select[int]) -> int:
        with self.database.reading() as session:
            return session.scalar(statement) or 0


def submit(api: Api, name: str = REPORT, payload: dict[str, Any] | None = None, **options: Any) -> str:
    """Submit a task; its id."""
    answer = api.http.post("/tasks", json={"name": name, "payload": payload or {}, **options})
    assert answer.status_code == 202, answer.text
    return answer.json()["task_id"]


def say(api: Api, conversation: str, **options: Any) -> str:
    """Submit a task with an ordering key."""
    return submit(api, MESSAGE, {"conversation_id": conversation, "text": "Hello"}, **options)


def found(api: Api, **query: Any) -> list[str]:
    """The ids that a search finds, in its order."""
    answer = api.http.get("/tasks", params=query)
    assert answer.status_code == 200, answer.text
    return [task["task_id"] for task in answer.json()["tasks"]]


def change(api: Api, id: str, **values: Any) -> None:
    """Change a row behind everybody's back."""
    with api.database.transaction() as session:
        session.execute(update(TaskRun).where(TaskRun.id == id).values(**values))


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
    assert not [
        word for word in (*SECRETS, "Traceback", 'File "', "127.0.0.1", "sqlite", "psycopg") if word in answer.text
    ]
    return found


def unfinished(live: Site) -> int:
    """How many tasks of a live installation are not over."""
    figures = live.get("/conversations/tasks/queues/status")["queues"].values()
    return sum(queue["active"] + queue["pending"] + queue["scheduled"] for queue in figures)
