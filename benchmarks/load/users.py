"""The users, for Locust: `locust -f benchmarks/load/users.py`, which `python -m benchmarks.load` starts.

The id of each accepted task is written to the file named by `LOAD_ACCEPTED`, for the account afterwards.
"""

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
_accepted = open(os.environ.get("LOAD_ACCEPTED", os.devnull), "a", buffering=1)  # noqa: SIM115, PTH123 - open until the process ends


class Customer(HttpUser):
    """A user of all routes; about one request a second."""

    wait_time = between(0.5, 1.5)

    def on_start(self) -> None:
        """Create the user's lead."""
        self.id = uuid4().hex[:12]
        self.task_ids: list[str] = []
        self.workflow_ids: list[str] = []
        self.lead = self._post("/api/leads", {"name": f"User {self.id}", "email": f"{self.id}@example.com"})["lead_id"]

    @task(6)
    def say(self) -> None:
        """Post a message to the user's conversation."""
        self._post(
            "/conversations/message", {"conversation_id": f"load-{self.id}", "message": random.choice(QUESTIONS)}
        )

    @task(2)
    def read(self) -> None:
        """Read the conversation."""
        with self.client.get(
            f"/conversations/load-{self.id}", name="/conversations/{id}", catch_response=True
        ) as response:
            if response.status_code == 404:  # the user has not posted a message yet
                response.success()

    @task(2)
    def page_message(self) -> None:
        """Post a signed Facebook page message."""
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
        with self.client.post("/webhooks/facebook", data=body, headers=headers, catch_response=True) as response:
            self._record(response)

    @task(3)
    def chat(self) -> None:
        """Start a workflow through the chat endpoint."""
        context = {"workflow_type": "savings_assessment", "calculator_inputs": CALCULATION}
        run = self._post("/api/chat", {"agent_id": self.id, "mode": "execute", "context": context})
        self.workflow_ids.append(run["workflow_id"])

    @task(2)
    def workflow(self) -> None:
        """Read the state of a workflow."""
        if self.workflow_ids:
            self.client.get(f"/api/workflows/{random.choice(self.workflow_ids)}", name="/api/workflows/{id}")

    @task(3)
    def change_lead(self) -> None:
        """Change the lead."""
        content = {"name": f"User {self.id}", "status": random.choice(STATUSES), "fields": {"score": random.random()}}
        with self.client.put(
            f"/api/leads/{self.lead}", json=content, name="/api/leads/{id}", catch_response=True
        ) as response:
            self._record(response)

    @task(2)
    def read_lead(self) -> None:
        """Read the lead and its state in the CRM."""
        self.client.get(f"/api/leads/{self.lead}", name="/api/leads/{id}")

    @task(1)
    def document(self) -> None:
        """Process a document, possibly again."""
        key = random.choice(OBJECTS)
        self._post(
            "/api/documents/process",
            {"document_id": f"load-{self.id}", "user_id": self.id, "r2_key": key, "file_name": key},
        )

    @task(2)
    def any_task(self) -> None:
        """Submit a task by name, with the caller's id."""
        payload = {"conversation_id": f"load-{self.id}", "message": random.choice(QUESTIONS)}
        self._post("/tasks", {"type": "process_conversation_message_task", "payload": payload, "id": uuid4().hex})

    @task(3)
    def task_status(self) -> None:
        """Read the status of a task."""
        if self.task_ids:
            self.client.get(f"/tasks/{random.choice(self.task_ids)}", name="/tasks/{id}")

    @task(1)
    def queues(self) -> None:
        """Read the figures of the queues."""
        self.client.get("/conversations/tasks/queues/status")

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        with self.client.post(path, json=body, catch_response=True) as response:
            return self._record(response)
        raise AssertionError  # the block above returns; Locust's type does not say so

    def _record(self, response: Any) -> dict[str, Any]:
        """Record the id of an accepted task; count any other response as a failure."""
        if response.status_code not in (200, 202):
            response.failure(f"{response.status_code}: {response.text[:200]}")
            return {"lead_id": "none", "workflow_id": "none"}
        body: dict[str, Any] = response.json()
        for kind in ("task_id", "workflow_id"):
            if body.get(kind):
                _accepted.write(f"{kind} {body[kind]}\n")
        if body.get("task_id"):
            self.task_ids = [*self.task_ids[-50:], body["task_id"]]
        return body
