"""Flower in a project that uses the delivery engine only, with its broker at several kinds of addresses."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from laneway.engine import Engine, EngineError, Message
from laneway.server.valkey import server_argv
from tests.acceptance.test_flower import row_of
from tests.fixtures.forked import start_process
from tests.fixtures.site import START_SECONDS
from tests.fixtures.valkey import free_port
from tests.fixtures.waiting import wait_until

PROJECT = """
import os
from celery import Celery

app = Celery("elsewhere", broker=os.environ["BROKER"])
app.conf.broker_transport = "laneway:Transport"
"""
CONFIGURATION = """
import laneway.worker.flower

laneway.worker.flower.install()
address = "127.0.0.1"
basic_auth = ["ann:secret"]
"""
DATABASE = 3


@pytest.mark.parametrize("where", ["a password", "a user", "a socket", "the second of two addresses"])
def test_flower_shows_the_queues_of_a_project_for_each_kind_of_broker_address(where: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text(PROJECT)
    (tmp_path / "configuration.py").write_text(CONFIGURATION)
    port = free_port()
    argv = ["celery", "-A", "elsewhere", "flower", "--conf=configuration.py", f"--port={port}"]
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=("ann", "secret"), timeout=20, trust_env=False)
    with server(tmp_path) as addresses, process(argv, tmp_path, "flower", BROKER=addresses[where]), client:
        wait_until(lambda: answers(client), seconds=START_SECONDS)

        lengths = client.get("/api/queues/length").json()["active_queues"]
        page = client.get("/broker").text

    assert [(queue["name"], queue["messages"]) for queue in lengths] == [("celery", 7)]
    assert row_of(page, "celery")[:2] == ["celery", "7"]
    assert "hunter2" not in page
    assert "Traceback" not in (tmp_path / "flower.log").read_text()


@contextmanager
def server(folder: Path) -> Generator[dict[str, str]]:
    """Run a server with seven messages in the queue `celery`; yields its addresses."""
    port, socket = free_port(), folder / "socket"
    argv = [
        *server_argv(folder, port=port),
        "--requirepass",
        "hunter2",
        "--unixsocket",
        str(socket),
        "--user",
        "bob",
        "on",
        ">hunter2",
        "~*",
        "&*",
        "+@all",
    ]
    address = f"redis://:hunter2@127.0.0.1:{port}/{DATABASE}"
    engine = Engine.from_url(address)
    with process(argv, folder, "valkey"):
        wait_until(lambda: fill(engine), seconds=10)
        engine.close()
        yield {
            "a password": address,
            "a user": f"redis://bob:hunter2@127.0.0.1:{port}/{DATABASE}",
            "a socket": f"socket://:hunter2@{socket}?virtual_host={DATABASE}",
            "the second of two addresses": f"redis://:hunter2@127.0.0.1:{free_port()}/{DATABASE};{address}",
        }


def fill(engine: Engine) -> bool:
    """Put the messages; False while the server does not answer."""
    try:
        engine.put_many("celery", [Message(task_id=f"task-{number}", name="demo") for number in range(7)])
    except EngineError:
        return False
    return True


def answers(client: httpx.Client) -> bool:
    """Whether Flower answers."""
    try:
        return client.get("/healthcheck").status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def process(argv: Sequence[str], folder: Path, name: str, **environment: str) -> Generator[None]:
    """Run a process in a folder with its output in a file there; stop it at the end."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLOWER_")}
    with (folder / f"{name}.log").open("wb") as log:
        started = start_process(argv, folder=folder, environment=inherited | environment, output=log)
    try:
        yield
    finally:
        started.terminate()
        started.wait(20)
