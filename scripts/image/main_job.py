"""The platform's main job, from outside: a message is posted and answered, and the statistics count it.

`python main_job.py http://127.0.0.1:8000`. LANEWAY_TOKEN has a token with the scope
`admin`. Needs the standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

START_SECONDS = 180.0
ANSWER_SECONDS = 60.0
WORKERS = 2


def main(address: str) -> None:
    """Run the job; end with exit code 1 and the last answer when a part of it is not there in time."""
    until(
        START_SECONDS,
        lambda: call(address, "/health/ready"),
        lambda answer: answer.get("status") == "ready" and answer["live_workers"] >= WORKERS,
    )
    accepted = call(
        address,
        "/conversations/message",
        {"conversation_id": "image", "message": "How long does the warranty last?", "async_processing": True},
    )
    until(
        ANSWER_SECONDS,
        lambda: call(address, f"/tasks/{accepted['task_id']}"),
        lambda answer: answer.get("status") == "completed",
    )
    conversation = until(
        ANSWER_SECONDS,
        lambda: call(address, "/conversations/image"),
        lambda answer: [turn["role"] for turn in answer["messages"]] == ["customer", "assistant"],
    )
    stats = until(ANSWER_SECONDS, lambda: call(address, "/stats"), lambda answer: answer["tasks"]["completed"] >= 1)
    print(f"answered: {conversation['messages'][-1]['message']!r}; {stats['tasks']['completed']} completed")


def call(address: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The API's answer, also when it is an error."""
    data = json.dumps(body).encode() if body is not None else None
    headers = {"content-type": "application/json", "authorization": f"Bearer {os.environ['LANEWAY_TOKEN']}"}
    request = Request(address + path, data, headers)  # noqa: S310 - http only
    try:
        with urlopen(request, timeout=10) as response:  # noqa: S310
            return json.load(response)
    except HTTPError as error:
        return json.load(error)


def until(
    seconds: float, ask: Callable[[], dict[str, Any]], is_right: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Ask until the answer is right, and return it."""
    deadline, answer = time.monotonic() + seconds, dict[str, Any]()
    while time.monotonic() < deadline:
        try:
            answer = ask()
        except (OSError, ValueError, KeyError) as error:
            answer = {"error": str(error)}
        else:
            if is_right(answer):
                return answer
        time.sleep(0.25)
    sys.exit(f"Not there within {seconds:g} s; the last answer was {answer}")


if __name__ == "__main__":
    main(sys.argv[1])
