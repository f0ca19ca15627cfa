"""What the users do, for Locust: `locust -f benchmarks/load/users.py`, as `python -m benchmarks.load` starts it.

Each id that the platform accepted is written to the file in `LOAD_ACCEPTED`, to be accounted for afterwards.
"""

# Locust is typed in part only.
# pyright: reportUnknownMemberType=false, reportUntypedFunctionDecorator=false

from __future__ import annotations

import json
import os
import random
from typing import Any
from uuid import uuid4

from locust import HttpUser, between, task
from pydantic import SecretStr

from benchmarks.load.inputs import CALCULATION, QUESTIONS, STATUSES
from laneway.platform.webhooks.signing import sign_hub

OBJECTS = json.loads(os.environ.get("LOAD_OBJECTS", "[]"))
SECRET = SecretStr(os.environ.get("FACEBOOK_APP_SECRET", ""))
_accepted = open(os.environ.get("LOAD_ACCEPTED", os.devnull), "a", buffering=1)  # noqa: SIM115, PTH123  open to the end


class Customer(HttpUser):
    """One user of everything; a request every second or so."""

    wait_time = between(0.5, 1.5)

    def on_start(self) -> None:
        """Each has a conversation and a lead of its own."""
        self.id = uuid4().hex[:12]
        self.tasks_seen: list[str] = []
        self.runs_seen: list[str] = []
        self.lead = self._post("/api/leads", {"name": f"User {self.id}", "email": f"{self.id}@example.com"})["lead_id"]

    @task(6)
    def say(self) -> None:
        """A message in a conversation."""
        self._post("/conversations/message", {"conversation_id": f"load-{self.id}", "text": random.choice(QUESTIONS)})

    @task(2)
    def read(self) -> None:
        """The conversation so far."""
        with self.client.get(f"/conversations/load-{self.id}", name="/conversations/{id}", catch_response=True) as seen:
            if seen.status_code == 404:  # it has not said anything yet
                seen.success()

    @task(2)
    def page_message(self) -> None:
        """A signed Facebook page message."""
        message = {
            "sender": {"id": self.id},
            "recipient": {"id": "1001"},
            "timestamp": 1_700_000_000_000,
            "message": {"mid": uuid4().hex, "text": random.choice(QUESTIONS)},
        }
        body = json.dumps(
            {"object": "page", "entry": [{"id": "1001", "time": 1_700_000_000_000, "messaging": [message]}]}
        ).encode()
        headers = {"Content-Type": "application/json", "X-Hub-Signature-256": sign_hub(body, SECRET)}
        with self.client.post("/webhooks/facebook", data=body, headers=headers, catch_response=True) as answer:
            self._note(answer)

    @task(3)
    def chat(self) -> None:
        """A workflow."""
        context = {"workflow_type": "savings_assessment", "calculator_inputs": CALCULATION}
        run = self._post("/api/chat", {"agent_id": self.id, "mode": "execute", "context": context})
        self.runs_seen.append(run["workflow_id"])

    @task(2)
    def workflow(self) -> None:
        """How a workflow goes."""
        if self.runs_seen:
            self.client.get(f"/api/workflows/{random.choice(self.runs_seen)}", name="/api/workflows/{id}")

    @task(3)
    def change_lead(self) -> None:
        """The lead moves on."""
        content = {"name": f"User {self.id}", "status": random.choice(STATUSES), "fields": {"score": random.random()}}
        with self.client.put(
            f"/api/leads/{self.lead}", json=content, name="/api/leads/{id}", catch_response=True
        ) as answer:
            self._note(answer)

    @task(2)
    def look_at_lead(self) -> None:
        """What the CRM was told."""
        self.client.get(f"/api/leads/{self.lead}", name="/api/leads/{id}")

    @task(1)
    def document(self) -> None:
        """A document is processed (again)."""
        key = random.choice(OBJECTS)
        self._post(
            "/api/documents/process",
            {"document_id": f"load-{self.id}", "user_id": self.id, "r2_key": key, "file_name": key},
        )

    @task(2)
    def any_task(self) -> None:
        """A task of any type, with an id of the caller's."""
        payload = {"conversation_id": f"load-{self.id}", "text": random.choice(QUESTIONS)}
        self._post("/tasks", {"type": "process_conversation_message_task", "payload": payload, "id": uuid4().hex})

    @task(3)
    def task_status(self) -> None:
        """How a task goes."""
        if self.tasks_seen:
            self.client.get(f"/tasks/{random.choice(self.tasks_seen)}", name="/tasks/{id}")

    @task(1)
    def queues(self) -> None:
        """What waits where."""
        self.client.get("/conversations/tasks/queues/status")

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        with self.client.post(path, json=body, catch_response=True) as answer:
            return self._note(answer)

    def _note(self, answer: Any) -> dict[str, Any]:
        """Keep the id of what was accepted; anything else is a failure."""
        if answer.status_code not in (200, 202):
            answer.failure(f"{answer.status_code}: {answer.text[:200]}")
            return {"lead_id": "none", "workflow_id": "none"}
        given: dict[str, Any] = answer.json()
        for kind in ("task_id", "workflow_id"):
            if given.get(kind):
                _accepted.write(f"{kind} {given[kind]}\n")
        if given.get("task_id"):
            self.tasks_seen = [*self.tasks_seen[-50:], given["task_id"]]
        return given
