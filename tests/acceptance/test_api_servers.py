"""Several processes of the API behind one address, under each server that README.md names."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from laneway.engine import MessageState
from laneway.schemas.task import TaskState
from tests.fixtures.site import START_SECONDS, Node, Site
from tests.fixtures.waiting import wait_until

SERVERS: dict[str, tuple[str, ...]] = {
    "uvicorn": ("uvicorn", "--workers", "2", "app.main:app", "--port"),
    "gunicorn": ("gunicorn", "-w", "2", "-k", "uvicorn.workers.UvicornWorker", "app.main:app", "-b"),
    "gunicorn with uvicorn-worker": ("gunicorn", "-w", "2", "-k", "uvicorn_worker.UvicornWorker", "app.main:app", "-b"),
}
STOP_SECONDS = 8
"""Open streams end at once; without that a server waits for them until its own time limit, which is 30 s here."""


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, site: Site) -> Node:
    """The API in several processes, all of which have started."""
    *argv, listen = SERVERS[request.param]
    address = str(site.api_port) if listen == "--port" else f"127.0.0.1:{site.api_port}"
    limit = "--timeout-graceful-shutdown" if argv[0] == "uvicorn" else "--graceful-timeout"
    node = site.start(argv[0], *argv, listen, address, limit, "30")
    wait_until(site.api_answers, seconds=3 * START_SECONDS)  # each process imports everything
    wait_until(lambda: node.output().count("Application startup complete") == int(argv[2]), seconds=3 * START_SECONDS)
    return node


def once(site: Site, id: str) -> httpx.Response:
    """A submission on a connection of its own, so that any process may get it."""
    body = {"name": "cleanup_old_data_task", "payload": {}, "id": id}
    with httpx.Client(base_url=site.http.base_url, timeout=60, trust_env=False) as client:
        return client.post("/tasks", json=body)


@pytest.mark.timeout(400)
def test_several_processes_share_the_work_and_stop_at_once(site: Site, server: Node) -> None:
    site.services.broker.purge("maintenance")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: once(site, f"{server.pid}-{number % 20}"), range(60)))
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert waiting(site) == 20, "each id is one task, whichever process took it"

    site.valkey.kill()
    parked = [site.http.post("/tasks", json={"name": "cleanup_old_data_task", "payload": {}}).json() for _ in range(12)]
    assert {task["state"] for task in parked} == {TaskState.ACCEPTED}
    site.valkey.start()
    wait_until(lambda: waiting(site) == 32, seconds=30)
    site.services.recorder.catch_up()
    puts = [event.kind for task in parked for event in site.services.event_stream.events(task["task_id"])].count("put")
    assert puts == 12, "the relays send each task once"

    with ExitStack() as stack:
        ends = [stack.enter_context(Follower(site, parked[0]["task_id"])) for _ in range(3)]
        for end in ends:
            assert end.started.wait(20)
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        server.process.wait(30)
        seconds = time.monotonic() - began
    assert [end.kinds[-1] for end in ends] == ["stopping"] * 3
    assert [end.error for end in ends] == [None] * 3
    assert seconds < STOP_SECONDS
    output = server.output()
    assert "Traceback" not in output
    # a reader that meets a writer may leave the recording to it; nothing else may fail because of another process
    locked = [line for line in output.splitlines() if "database is locked" in line]
    assert [line for line in locked if "the history is behind" not in line] == []


def waiting(site: Site) -> int:
    return len(site.services.broker.engine.peek("maintenance", MessageState.READY, limit=100))  # pyright: ignore


class Follower:
    """Reads the event stream of a task in a thread."""

    def __init__(self, site: Site, id: str) -> None:
        self.kinds: list[str] = []
        self.started = threading.Event()
        self.error: str | None = None
        self._url = f"http://127.0.0.1:{site.api_port}/tasks/{id}/events"
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(30)

    def _read(self) -> None:
        try:
            with httpx.stream("GET", self._url, timeout=60, trust_env=False) as answer:
                for kind in kinds(answer.iter_lines()):
                    self.kinds.append(kind)
                    self.started.set()
        except httpx.HTTPError as error:
            self.error = repr(error)


def kinds(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if line.startswith("event: "):
            yield line.removeprefix("event: ")
