"""The clients on a running platform: submit, wait, follow, cancel, retry."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import httpx
import pytest

from laneway.client import (
    Client,
    Conflict,
    InvalidRequest,
    NotFound,
    TaskState,
    WaitTimeout,
    task_request,
)
from laneway.client.calls import DebounceFields
from laneway.schemas.payload import Payload
from tests.fixtures.http_peer import HttpPeer, HttpReply, HttpRequest
from tests.fixtures.site import Site
from tests.laneway.client.conftest import MakeClient

MESSAGE = "process_conversation_message_task"


class Message(Payload):
    """What a caller would define of the task's payload."""

    conversation_id: str
    message: str


def hello() -> Message:
    return Message(conversation_id=f"c-{uuid4().hex}", message="Hello")


def api_url(live: Site) -> str:
    return f"http://127.0.0.1:{live.api_port}"


@pytest.fixture
def client(live: Site, make_client: MakeClient) -> Client:
    """A client of the running platform."""
    return make_client(api_url(live), retry_seconds=20)


def test_a_task_is_submitted_and_its_result_comes_when_it_is_over(client: Client) -> None:
    payload = hello()
    handle = client.submit(MESSAGE, payload, tags=["from-a-client"], priority="high", key="ada")
    task = client.wait(handle.task_id, timeout=timedelta(seconds=60))

    assert handle.created
    assert task.status == TaskState.COMPLETED
    assert task.result
    assert task.payload == client.get(handle.task_id).payload
    assert task.payload["conversation_id"] == payload.conversation_id
    assert (task.tags, task.key) == (["from-a-client"], "ada")


def test_a_batch_is_accepted_as_a_whole_or_not_at_all(client: Client) -> None:
    payloads = [hello() for _ in range(3)]
    handles = client.submit_many([task_request(MESSAGE, payload) for payload in payloads])
    ids = [f"refused-{uuid4().hex}" for _ in range(2)]
    with pytest.raises(NotFound, match="no_such_task"):
        client.submit_many([task_request(MESSAGE, hello(), id=ids[0]), task_request("no_such_task", id=ids[1])])

    assert [client.wait(handle.task_id).payload["conversation_id"] for handle in handles] == [
        payload.conversation_id for payload in payloads
    ]
    with pytest.raises(NotFound):
        client.get(ids[0])


def test_debounced_submissions_run_once_with_the_last_payload(client: Client) -> None:
    first, last = hello(), hello()
    rule: DebounceFields = {"key": uuid4().hex, "seconds": 1}
    handles = [client.submit(MESSAGE, payload, debounce=rule) for payload in (first, last)]
    task = client.wait(handles[0].task_id, timeout=timedelta(seconds=60))
    kinds = [event.kind for event in client.events(task.task_id)]

    assert [(handle.created, handle.outcome) for handle in handles] == [(True, "accepted"), (False, "merged")]
    assert handles[1].task_id == task.task_id
    assert (task.status, task.attempts) == (TaskState.COMPLETED, 1)
    assert task.payload["conversation_id"] == last.conversation_id
    assert (kinds.count("replaced"), kinds.count("put"), kinds.count("begin")) == (1, 1, 1)


def test_the_events_of_a_task_are_followed_to_its_end(client: Client) -> None:
    handle = client.submit(MESSAGE, hello())
    events = list(client.events(handle.task_id))

    assert client.get(handle.task_id).status == TaskState.COMPLETED
    assert [event.id for event in events] == sorted({event.id for event in events})
    assert events[-1].kind == "end"
    assert list(client.events(handle.task_id, after=events[1].id)) == events[2:]


def test_a_cut_event_stream_goes_on_after_the_last_event(
    live: Site, make_client: MakeClient, http_peer: HttpPeer
) -> None:
    whole = make_client(api_url(live))
    id = whole.submit(MESSAGE, hello()).task_id
    whole.wait(id)
    events = list(whole.events(id))
    text = httpx.get(f"{api_url(live)}/tasks/{id}/events").text
    half = text.index("\n\n", len(text) // 2) + 20  # in the middle of an event

    def forward(request: HttpRequest) -> HttpReply:
        answer = httpx.get(
            f"{api_url(live)}{request.path}", headers={"Last-Event-ID": request.headers.get("last-event-id", "0")}
        )
        return HttpReply(answer.status_code, {"Content-Type": answer.headers["content-type"]}, answer.text)

    http_peer.always = forward
    http_peer.reply_with(HttpReply(200, {"Content-Type": "text/event-stream"}, text[:half]))

    assert list(make_client(http_peer.url).events(id)) == events
    assert http_peer.requests[0].headers["last-event-id"] == "0"
    assert int(http_peer.requests[1].headers["last-event-id"]) > 0


def test_a_wait_that_is_too_short_says_how_the_task_is(client: Client) -> None:
    handle = client.submit(MESSAGE, hello(), delay=timedelta(hours=1))
    with pytest.raises(WaitTimeout, match=r"scheduled after 0\.5 s") as raised:
        client.wait(handle.task_id, timeout=0.5)

    assert raised.value.task.status == TaskState.SCHEDULED
    assert client.cancel(handle.task_id).cancelled
    assert client.wait(handle.task_id).status == TaskState.CANCELLED
    assert client.retry(handle.task_id).task_id == handle.task_id
    assert client.wait(handle.task_id).status == TaskState.COMPLETED


def test_a_lost_answer_makes_no_second_task(live: Site, make_client: MakeClient, http_peer: HttpPeer) -> None:
    answers: list[httpx.Response] = []

    def forward(request: HttpRequest) -> HttpReply:
        answers.append(httpx.post(f"{api_url(live)}{request.path}", json=request.json()))
        if len(answers) == 1:
            return HttpReply(hang_up=True)
        return HttpReply(answers[-1].status_code, body=answers[-1].json())

    http_peer.always = forward
    handle = make_client(http_peer.url).submit(MESSAGE, hello())

    first, second = (answer.json() for answer in answers)
    assert first["task_id"] == second["task_id"] == handle.task_id
    assert (first["created"], second["created"]) == (True, False)


def test_errors_are_exceptions_with_the_fields_of_the_problem(client: Client) -> None:
    payload = hello()
    id = client.submit(MESSAGE, payload).task_id
    with pytest.raises(NotFound) as unknown:
        client.get(f"nobody-{uuid4().hex}")
    with pytest.raises(InvalidRequest, match="conversation_id") as invalid:
        client.submit(MESSAGE, {"message": 7})
    with pytest.raises(Conflict) as conflict:
        client.submit(MESSAGE, hello(), id=id)

    assert (unknown.value.status, unknown.value.type) == (404, "urn:laneway:problem:unknown-task")
    assert invalid.value.status == 422
    assert conflict.value.status == 409
    assert all(error.value.request_id for error in (unknown, invalid, conflict))


def test_a_stream_that_ends_because_the_api_stops_goes_on_elsewhere(
    live: Site, make_client: MakeClient, http_peer: HttpPeer
) -> None:
    whole = make_client(api_url(live))
    id = whole.submit(MESSAGE, hello()).task_id
    whole.wait(id)
    text = httpx.get(f"{api_url(live)}/tasks/{id}/events").text
    first, _, rest = text.partition("\n\n")
    stopping = 'event: stopping\ndata: {"task_id": "x"}\nretry: 1000\n\n'
    stream = {"Content-Type": "text/event-stream"}
    replies = [stopping, f"{first}\n\n{stopping}", rest.lstrip(), ""]
    http_peer.reply_with(*(HttpReply(200, stream, reply) for reply in replies))
    http_peer.always = HttpReply(200, body=live.get(f"/tasks/{id}"))
    client = make_client(http_peer.url, retry_seconds=0.5)

    assert list(client.events(id)) == list(whole.events(id))


def test_a_batch_is_made_filled_closed_and_followed_to_its_end(client: Client) -> None:
    first, second = task_request(MESSAGE, hello()), task_request(MESSAGE, hello())
    made = client.make_batch([first], description="Two messages", keep_open=True)
    (added,) = client.add_to_batch(made.batch_id, [second])
    assert client.add_to_batch(made.batch_id, [second])[0].task_id == added.task_id, "a repeat adds nothing"
    assert client.batch(made.batch_id).state == "open"
    client.close_batch(made.batch_id)
    for handle in (*made.tasks, added):
        client.wait(handle.task_id)

    batch = client.batch(made.batch_id)
    assert (batch.state, batch.total, batch.completed, batch.percent) == ("completed", 2, 2, 100)
    with pytest.raises(Conflict, match="takes no more tasks"):
        client.add_to_batch(made.batch_id, [task_request(MESSAGE, hello())])
