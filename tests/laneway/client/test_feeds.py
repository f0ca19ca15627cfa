"""The clients follow feeds and the output of tasks of a running platform, and resume by themselves."""

from __future__ import annotations

from itertools import islice
from uuid import uuid4

import httpx
import pytest

from laneway.client import Client
from laneway.schemas.feed import FeedEvent
from tests.fixtures.http_peer import HttpPeer, HttpReply, HttpRequest
from tests.fixtures.site import Site
from tests.fixtures.tasks_for_tests import WRITING
from tests.laneway.client.conftest import MakeClient
from tests.laneway.client.test_client import MESSAGE, api_url, hello

LIFE = ["accepted", "put", "begin", "end"]
TOKENS = [f"token-{number} " for number in range(200)]


@pytest.fixture
def client(live: Site, make_client: MakeClient) -> Client:
    """A client of the running platform."""
    return make_client(api_url(live), retry_seconds=20)


def test_the_output_of_a_task_comes_while_it_runs_and_again_later(live: Site, client: Client) -> None:
    gate = live.gate(uuid4().hex)
    id = live.submit(WRITING, {"gate": str(gate)})
    chunks = client.output(id)
    early = list(islice(chunks, len(TOKENS)))
    assert client.get(id).status == "processing", "the task waits at its gate"
    gate.open()
    whole = early + list(chunks)

    assert [chunk.value for chunk in whole] == [*TOKENS, {"usage": 200}]
    assert [chunk.number for chunk in whole] == list(range(201))
    assert {chunk.attempt for chunk in whole} == {1}
    groups = [event for event in client.events(id) if event.kind == "output"]
    assert len(groups) <= 6, "each token made a round trip"
    assert list(client.output(id, follow=False)) == whole
    first = whole[0].event_id
    assert list(client.output(id, after=first)) == [chunk for chunk in whole if chunk.event_id > first]


def test_a_feed_has_the_events_of_many_tasks_and_goes_on_after_a_cut(
    live: Site, client: Client, make_client: MakeClient, http_peer: HttpPeer
) -> None:
    tag = f"feed-{uuid4().hex}"
    newest = list(client.feed(last=1, follow=False))
    ids = [client.submit(MESSAGE, hello(), tags=[tag]).task_id for _ in range(3)]
    whole = list[FeedEvent]()
    for event in client.feed(after=newest[0].id if newest else 0, tag=tag):
        whole.append(event)
        if sum(each.kind == "end" for each in whole) == len(ids):
            break
    assert [event.id for event in whole] == sorted({event.id for event in whole})
    for id in ids:
        kinds = [event.kind for event in whole if event.task_id == id]
        assert [kind for kind in kinds if kind in LIFE] == LIFE
    for id in ids:
        client.wait(id)
    path = f"/events?after=0&tag={tag}&follow=false"
    text = httpx.get(api_url(live) + path, trust_env=False).text
    everything = list(client.feed(after=0, tag=tag, follow=False))
    half = text.index("\n\n", len(text) // 2) + 20  # in the middle of an event

    def forward(request: HttpRequest) -> HttpReply:
        headers = {"Last-Event-ID": request.headers["last-event-id"]}
        answer = httpx.get(f"{api_url(live)}{path}", headers=headers, trust_env=False)
        return HttpReply(answer.status_code, {"Content-Type": answer.headers["content-type"]}, answer.text)

    http_peer.always = forward
    http_peer.reply_with(HttpReply(200, {"Content-Type": "text/event-stream"}, text[:half]))
    found = list(islice(make_client(http_peer.url).feed(after=0, tag=tag), len(everything)))

    assert found == everything
    assert len(http_peer.requests) == 2
