"""Scenes of the main system: documents, a conversation, webhooks, a report."""

from __future__ import annotations

import json
from typing import Any

from rich.panel import Panel
from rich.text import Text

from app.demo.scenario import EXAMPLES, Asked, Stage, example
from app.services.documents.knowledge import Knowledge
from laneway.platform.db.migrate import upgrade
from laneway.platform.db.session import Database
from laneway.platform.webhooks.signing import sign_hub

QUESTIONS = (
    "Hello! How long do I have to return a bicycle?",
    "And what condition does it have to be in?",
    "How long does the warranty on the battery last?",
    "Do you also sell sailing boats?",
)


def ingest(stage: Stage) -> None:
    """Documents that replies may cite."""
    upgrade(stage.settings.storage.url)
    database = Database(stage.settings.storage.url)
    knowledge = Knowledge(database)
    for path in sorted((EXAMPLES / "documents").glob("*.md")):
        found = knowledge.ingest_file(path)
        stage.out.print(
            f"  {found.title}: {found.passage_count} passages" + ("" if found.changed else " (known already)")
        )
    database.close()


def converse(stage: Stage) -> None:
    """A conversation of several turns, sent at once and answered in order."""
    conversation = f"demo-{stage.mark}"
    stage.wait([ask(stage, conversation, number, text) for number, text in enumerate(QUESTIONS, 1)])
    show(stage, conversation)


def webhooks(stage: Stage) -> None:
    """A signed Facebook page message and a Google lead form."""
    facebook, google = _facebook(stage), _google(stage)
    deliveries = [Asked("Facebook page message", facebook["task_id"]), Asked("Google lead form", google["task_id"])]
    stage.wait(deliveries)
    follow_ups = [Asked(f"reply to {asked.label}", task) for asked in deliveries for task in _queued_by(asked)]
    stage.wait(follow_ups)
    for asked in follow_ups:
        show(stage, asked.status["key"].removeprefix("conversation_id:"))


def report(stage: Stage) -> None:
    """The analytics report."""
    handle = stage.post("/analytics/reports", json={"kind": "conversations", "hours": 24})
    stage.wait([Asked("conversation analytics", handle["task_id"])])
    found = stage.get(f"/analytics/reports/{handle['task_id']}")
    stage.out.print_json(data=found["data"])


def ask(stage: Stage, conversation: str, number: int, text: str) -> Asked:
    """Send one message."""
    body = {"conversation_id": conversation, "text": text, "message_id": f"turn-{number}"}
    answer = stage.post("/conversations/message", json=body)
    return Asked(f"turn {number}", answer["task_id"])


def show(stage: Stage, conversation: str) -> None:
    """A conversation with its sources."""
    for turn in stage.get(f"/conversations/{conversation}")["messages"]:
        said = Text(turn["text"])
        for number, source in enumerate(turn["sources"], 1):
            said.append(f"\n[{number}] {source['document_id']}, passage {source['position'] + 1}", style="dim")
        style = "white" if turn["role"] == "customer" else "green"
        stage.out.print(Panel(said, title=turn["role"], title_align="left", border_style=style))


def _facebook(stage: Stage) -> dict[str, Any]:
    event = example("webhooks", "facebook_page_message.json")
    event["entry"][0]["messaging"][0]["message"]["mid"] += stage.mark
    body = json.dumps(event).encode()
    signature = sign_hub(body, stage.secret("FACEBOOK_APP_SECRET", stage.settings.webhooks.facebook_app_secret))
    headers = {"X-Hub-Signature-256": signature, "Content-Type": "application/json"}
    return stage.post("/webhooks/facebook", content=body, headers=headers)


def _google(stage: Stage) -> dict[str, Any]:
    key = stage.secret("GOOGLE_LEAD_KEY", stage.settings.webhooks.google_lead_key)
    lead = example("webhooks", "google_lead_form.json")
    lead |= {"google_key": key.get_secret_value(), "is_test": False, "lead_id": f"{lead['lead_id']}{stage.mark}"}
    return stage.post("/webhooks/google", json=lead)


def _queued_by(asked: Asked) -> list[str]:
    result: dict[str, Any] = asked.status.get("result") or {}
    return result.get("tasks", [])
