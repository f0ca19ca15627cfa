"""What the shell offers: commands, choices, and names and ids of a platform that answers quickly.

It runs what docs/cli.md shows.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from time import monotonic

import pytest

from app.core.settings import ROOT
from tests.fixtures.http_peer import HttpPeer, HttpReply
from tests.fixtures.shell import run_program
from tests.fixtures.valkey import free_port

TASKS = {"/task-names": {"names": [{"name": "add", "queue": "q"}, {"name": "bad\x1b[2J", "queue": "q"}]}}


def offered(line: str, *, cwd: Path = ROOT, **environment: str) -> list[str]:
    """The words that are offered at the end of a line."""
    words = line.split()
    given = {"_LANEWAY_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    if line.endswith(" "):
        given["COMP_CWORD"] = str(len(words))
    given |= {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    ran = run_program(environment=given | environment, folder=cwd)
    assert ran.err == ""
    return ran.out.split()


def test_commands_and_choices_are_offered_without_a_platform(tmp_path: Path) -> None:
    assert "workers" in offered("laneway wor", cwd=tmp_path)
    assert {"list", "show", "follow"} <= set(offered("laneway tasks ", cwd=tmp_path))
    assert "dead_letter" in offered("laneway tasks list --state ", cwd=tmp_path)


def test_names_and_ids_are_asked_from_the_api(http_peer: HttpPeer) -> None:
    http_peer.always = lambda request: HttpReply(200, {}, json.dumps(TASKS[request.path]))

    assert offered("laneway submit ", LANEWAY_URL=http_peer.url, LANEWAY_TOKEN="t") == ["add"]
    assert http_peer.requests[0].headers["authorization"] == "Bearer t"
    http_peer.always = HttpReply(200, {}, {"tasks": [{"task_id": "t-1"}, {"task_id": "u-1"}]})
    assert offered("laneway status t", LANEWAY_URL=http_peer.url) == ["t-1"]
    assert offered("laneway tasks show u", LANEWAY_URL=http_peer.url) == ["u-1"]
    http_peer.always = HttpReply(200, {}, {"queues": [{"queue": "crm"}]})
    assert offered("laneway queues pause ", LANEWAY_URL=http_peer.url) == ["crm"]


def test_the_token_goes_only_to_the_address_that_it_was_given_for(http_peer: HttpPeer) -> None:
    http_peer.always = HttpReply(200, {}, json.dumps(TASKS["/task-names"]))

    assert offered("laneway submit ", API_PORT=str(http_peer.port), LANEWAY_TOKEN="t") == ["add"]
    assert "authorization" not in http_peer.requests[0].headers


@pytest.mark.parametrize(
    "reply",
    [
        HttpReply(500),
        HttpReply(200, {}, {"names": [{"title": 1}]}),
        HttpReply(200, {}, "x" * 1000, drip=0.1),
        HttpReply(200, {}, "x", delay=20),
    ],
)
def test_a_platform_that_cannot_answer_offers_nothing_quickly(http_peer: HttpPeer, reply: HttpReply) -> None:
    started = monotonic()
    offered("laneway wor")
    alone = monotonic() - started
    http_peer.always = reply
    started = monotonic()

    assert offered("laneway submit ", LANEWAY_URL=http_peer.url) == []
    assert monotonic() - started < 3 * alone + 2, "a server that takes 20 s and more does not hold the shell"


def test_where_nothing_listens_nothing_is_offered() -> None:
    assert offered("laneway submit ", LANEWAY_URL=f"http://127.0.0.1:{free_port()}") == []
