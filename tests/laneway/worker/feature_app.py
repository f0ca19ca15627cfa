"""A Celery app for tests of Celery's features on the engine.

The environment has `BROKER` and `BACKEND` and, as JSON, `CONF` (more settings) and `OPTIONS` (of `laneway.install`),
and may have `START_READ_SECONDS`: after so long the worker reads which tasks its processes have started.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

from celery import Celery
from celery.worker.control import inspect_command

import laneway
from laneway.worker import start_pipe

start_pipe.READ_DELAY_SECONDS = float(os.environ.get("START_READ_SECONDS", start_pipe.READ_DELAY_SECONDS))
app = Celery("engine-features", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=4,
    worker_pool_restarts=True,
    result_extended=True,
)
app.conf.update(json.loads(os.environ.get("CONF", "{}")))
laneway.install(app, **{"lease": 2, **json.loads(os.environ.get("OPTIONS", "{}"))})


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(acks_late=True)
def note(folder: str, name: str, seconds: float = 0) -> str:
    """Write when it starts and ends into a file of its own."""
    with (Path(folder) / name).open("a") as file:
        file.write(f"start {time.time()}\n")
        file.flush()
        time.sleep(seconds)
        file.write(f"end {time.time()}\n")
    return name


@app.task
def note_early(folder: str, name: str, seconds: float = 0) -> str:
    """The same task, acked before it runs."""
    return note(folder, name, seconds)


@app.task
def fail() -> None:
    raise ValueError("meant to")


@app.task
def on_error(request: Any, exception: Any, traceback: Any, folder: str) -> None:
    """An error callback."""
    (Path(folder) / "errback").write_text(f"{request.id} {type(exception).__name__}")


@app.task(bind=True)
def replaced(self: Any, x: int) -> None:
    raise self.replace(app.signature(f"{__name__}.add", (x, 10)))


@app.task(bind=True)
def seen(self: Any) -> dict[str, Any]:
    """The fields of its message that the task sees."""
    request = self.request
    return {"eta": request.eta, "stamps": request.stamps, "headers": request.stamped_headers, "id": request.id}


@app.task(acks_late=True)
def die(folder: str) -> None:
    """Kill its own process, the first time."""
    path = Path(folder) / "died"
    with path.open("a") as file:
        file.write("x")
    if path.read_text() == "x":
        os.kill(os.getpid(), signal.SIGKILL)


@app.task(acks_late=True, reject_on_worker_lost=True)
def die_and_repeat(folder: str) -> None:
    """The same task, which runs again."""
    die(folder)


@app.task(acks_late=True, acks_on_failure_or_timeout=False)
def fail_unacked(folder: str) -> None:
    """Fail, without an ack."""
    with (Path(folder) / "failed").open("a") as file:
        file.write("x")
    raise ValueError("meant to")


@inspect_command()
def engine_sizes(state: Any) -> dict[str, int]:
    """How many items the containers of all the engine's objects hold in the worker's main process, by attribute."""
    del state
    sizes: Counter[str] = Counter()
    gc.collect()
    for thing in gc.get_objects():
        if str(type(thing).__module__).startswith("laneway"):
            for name, value in dict(getattr(thing, "__dict__", {})).items():
                if isinstance(value, dict | list | set | deque):
                    sizes[f"{type(thing).__name__}.{name}"] += len(value)  # pyright: ignore[reportUnknownArgumentType]
    return sizes
