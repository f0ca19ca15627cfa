"""Scenes of conversations: documents, a conversation, webhooks, a report."""

from __future__ import annotations

import json
from typing import Any

from rich.panel import Panel
from rich.text import Text

from app.demo.scenario import EXAMPLES, DemoTask, Scenario, example
from app.services.container import Services
from app.services.documents.passage_store import PassageStore
from laneway.platform.db.migrate import upgrade
from laneway.platform.db.session import Database
from laneway.platform.webhooks.signing import sign_hub

QUESTIONS = (
    "Hello! How long do I have to return a bicycle?",
    "And what condition does it have to be in?",
    "How long does the warranty on the battery last?",
    "Do you also sell sailing boats?",
)


def ingest(scenario: Scenario) -> None:
    """Documents that replies may cite."""
    upgrade(scenario.settings.storage.url, Services.migrations)
    database = Database(scenario.settings.storage.url)
    passage_store = PassageStore(database)
    for path in sorted((EXAMPLES / "documents").glob("*.md")):
        document = passage_store.ingest_file(path)
        note = "" if document.changed else " (known already)"
        scenario.out.print(f"  {document.title}: {document.passage_count} passages{note}")
    database.close()


def converse(scenario: Scenario) -> None:
    """A conversation of several turns, sent at once and answered in order."""
    conversation = f"demo-{scenario.run_id}"
    scenario.wait([send_message(scenario, conversation, number, text) for number, text in enumerate(QUESTIONS, 1)])
    show_conversation(scenario, conversation)


def webhooks(scenario: Scenario) -> None:
    """A signed Facebook page message and a Google lead form."""
    facebook, google = _post_facebook(scenario), _post_google(scenario)
    deliveries = [
        DemoTask("Facebook page message", facebook["task_id"]),
        DemoTask("Google lead form", google["task_id"]),
    ]
    scenario.wait(deliveries)
    follow_ups = [
        DemoTask(f"reply to {delivery.label}", task_id)
        for delivery in deliveries
        for task_id in _follow_up_ids(delivery)
    ]
    scenario.wait(follow_ups)
    for task in follow_ups:
        show_conversation(scenario, task.status["key"].removeprefix("conversation_id:"))


def report(scenario: Scenario) -> None:
    """The analytics report."""
    handle = scenario.post("/analytics/reports", json={"kind": "conversations", "hours": 24})
    scenario.wait([DemoTask("conversation analytics", handle["task_id"])])
    response = scenario.get(f"/analytics/reports/{handle['task_id']}")
    scenario.out.print_json(data=response["data"])


def send_message(scenario: Scenario, conversation: str, number: int, text: str) -> DemoTask:
    """Send one message, and return its task."""
    body = {"conversation_id": conversation, "message": text, "message_id": f"turn-{number}"}
    response = scenario.post("/conversations/message", json=body)
    return DemoTask(f"turn {number}", response["task_id"])


def show_conversation(scenario: Scenario, conversation: str) -> None:
    """Print a conversation with its sources."""
    for turn in scenario.get(f"/conversations/{conversation}")["messages"]:
        text = Text(turn["message"])
        for number, source in enumerate(turn["sources"], 1):
            text.append(f"\n[{number}] {source['document_id']}, passage {source['position'] + 1}", style="dim")
        style = "white" if turn["role"] == "customer" else "green"
        scenario.out.print(Panel(text, title=turn["role"], title_align="left", border_style=style))


def _post_facebook(scenario: Scenario) -> dict[str, Any]:
    event = example("webhooks", "facebook_page_message.json")
    event["entry"][0]["messaging"][0]["message"]["mid"] += scenario.run_id
    body = json.dumps(event).encode()
    secret = scenario.secret("FACEBOOK_APP_SECRET", scenario.settings.webhooks.facebook_app_secret)
    headers = {"X-Hub-Signature-256": sign_hub(body, secret), "Content-Type": "application/json"}
    return scenario.post("/webhooks/facebook", content=body, headers=headers)


def _post_google(scenario: Scenario) -> dict[str, Any]:
    key = scenario.secret("GOOGLE_LEAD_KEY", scenario.settings.webhooks.google_lead_key)
    lead = example("webhooks", "google_lead_form.json")
    lead |= {"google_key": key.get_secret_value(), "is_test": False, "lead_id": f"{lead['lead_id']}{scenario.run_id}"}
    return scenario.post("/webhooks/google", json=lead)


def _follow_up_ids(delivery: DemoTask) -> list[str]:
    result: dict[str, Any] = delivery.status.get("result") or {}
    return result.get("tasks", [])
