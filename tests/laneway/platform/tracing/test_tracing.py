"""Traces that are off cost nothing, and the packages that they need are asked for in one sentence."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from importlib import util
from types import FrameType
from typing import Any

import pytest

from laneway.platform import tracing
from laneway.platform.db.session import Database
from laneway.platform.errors import ConfigError
from laneway.platform.settings.tracing import TracingSettings
from laneway.platform.tracing.carrier import CARRIER
from tests.fixtures.platform import Platform

WITHOUT_OPENTELEMETRY = """
import sys
sys.modules["opentelemetry"] = None  # whoever imports it gets an ImportError
import laneway.platform.execution.worker_signals, laneway.platform.webhooks.tasks, laneway.platform.workflows.tasks
import laneway.worker.bootstep, laneway.transport.transport, laneway.results.backend
print([name for name in sys.modules if name.startswith("opentelemetry.")])
"""


@pytest.fixture
def platform_database(sqlite_database: Database) -> Database:
    """One database is enough here."""
    return sqlite_database


@contextmanager
def counted_calls() -> Generator[Counter[str]]:
    """Count the calls of Python functions by the files that they are in, while the block runs."""
    calls = Counter[str]()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            calls[frame.f_code.co_filename] += 1

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def of_traces(calls: Counter[str]) -> dict[str, int]:
    ours = [file for file in calls if "/platform/tracing/" in file and "/tests/" not in file]
    return {file: calls[file] for file in (*ours, *(file for file in calls if "opentelemetry" in file))}


def test_a_submission_and_an_attempt_call_nothing_of_traces_that_are_off(platform: Platform) -> None:
    assert tracing.active is None
    platform.message()
    with counted_calls() as calls:
        id = platform.message()
        platform.work()

    assert calls.total() > 100, "they are counted"
    assert of_traces(calls) == {}
    assert CARRIER not in platform.row(id).options


def test_what_a_worker_loads_needs_nothing_of_opentelemetry() -> None:
    """redis-py imports its SDK if that is installed, and does without it."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_OPENTELEMETRY], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout


def test_a_sender_without_traces_passes_on_the_context_of_a_row_and_nothing_else(platform: Platform) -> None:
    run = platform.row(platform.message())
    given = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "shop=1"}
    for kept, sent in ((given, given), ({"traceparent": "hunter2"}, {}), ("hunter2", {}), (None, {})):
        run.options = {CARRIER: kept}
        headers = platform.broker.messages.build(run, delay=0, priority=3).headers
        assert {name: headers[name] for name in given if name in headers} == sent


def test_a_process_without_the_packages_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = util.find_spec
    missing = "opentelemetry.exporter.otlp.proto.http"
    monkeypatch.setattr("laneway._extras.find_spec", lambda name: None if name == missing else find(name))
    settings = TracingSettings(_env_file=None, endpoint="http://127.0.0.1:4318")  # pyright: ignore[reportCallIssue]

    with pytest.raises(ConfigError) as refused:
        tracing.start(settings)

    assert str(refused.value) == "TRACING_ENDPOINT needs the extra: pip install 'laneway[tracing]'"
    assert tracing.active is None


def test_without_an_endpoint_and_with_the_standard_switch_there_are_no_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    tracing.start(TracingSettings(_env_file=None))  # pyright: ignore[reportCallIssue]
    assert tracing.active is None
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    tracing.start(TracingSettings(_env_file=None, endpoint="http://127.0.0.1:4318"))  # pyright: ignore[reportCallIssue]
    assert tracing.active is None
