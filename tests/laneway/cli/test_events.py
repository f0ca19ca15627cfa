"""`laneway events` and `laneway output`."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from laneway.engine import EventKind
from tests.fixtures.shell import Shell


def test_events_of_a_selection_are_shown(laneway: Shell) -> None:
    chore = laneway.platform.chore()
    chat = laneway.site.message("c-1")

    lines = laneway("events", "--after", "0", "--json").out.splitlines()
    events = [json.loads(line) for line in lines]
    assert [(event["kind"], event["task_id"]) for event in events if event["kind"] == "accepted"] == [
        ("accepted", chore),
        ("accepted", chat),
    ]
    selected = laneway("events", "--queue", "maintenance").out
    assert chore in selected and chat not in selected and "[maintenance] accepted" in selected
    assert len(laneway("events", "--last", "1").out.splitlines()) == 1
    assert laneway("events", "--kind", "end").out == ""
    refused = laneway("events", "--queue", "maintenence")
    assert refused.code != 0 and "maintenance" in refused.err


def test_the_output_of_a_task_is_printed_as_it_was_written(laneway: Shell) -> None:
    platform = laneway.platform
    id = platform.chore()
    attempt = platform.start("maintenance")
    platform.attempts.report(attempt, EventKind.OUTPUT, {"first": 0, "chunks": ["Hel", "lo\n", {"n": 1}]})
    assert laneway("output", id).out == 'Hello\n{"n": 1}\n'
    with ThreadPoolExecutor(1) as pool:
        follower = pool.submit(laneway.process, "output", id, "--follow", "--json")
        platform.attempts.report(attempt, EventKind.OUTPUT, {"first": 3, "chunks": ["end"]})
        platform.end(attempt)
        chunks = [json.loads(line) for line in follower.result(30).out.splitlines()]

    assert [(chunk["number"], chunk["value"]) for chunk in chunks] == list(enumerate(["Hel", "lo\n", {"n": 1}, "end"]))
    assert laneway("output", id, "--after", str(chunks[0]["event_id"])).out == "end"
    assert "output" not in laneway("tasks", "show", id).out
