"""Log lines: valid JSON or readable text, with ids, and without secrets."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
import structlog

from laneway.platform.logging import (
    bind,
    configure_logging,
    log_by_the_program,
    logger,
    quiet,
    unbind_all,
    wants_json,
    without_secrets,
)
from laneway.platform.settings import OperationSettings
from tests.fixtures.logs import log_plainly


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Restore the global logging configuration after a test."""
    root, names = logging.getLogger(), list(logging.Logger.manager.loggerDict)
    before = root.handlers, root.level
    levels = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    yield
    root.handlers, root.level = before
    for named, level in levels:
        named.setLevel(level)
    log_plainly()
    unbind_all()


class Written:
    """The lines that were written to standard error."""

    def __init__(self, stream: StringIO) -> None:
        self._stream = stream

    def configure(self, given: OperationSettings, *, json: bool) -> None:
        """Configure logging after pytest has replaced standard error, which it does between set-up and test."""
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(sys, "stderr", self._stream)
            configure_logging(given, json=json)

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    def __call__(self) -> list[dict[str, Any]]:
        """The lines, as JSON."""
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def written() -> Written:
    """Standard error, captured by this fixture."""
    return Written(StringIO())


@pytest.fixture
def lines(written: Written) -> Written:
    """JSON logging; a call returns the lines."""
    written.configure(settings(), json=True)
    return written


def settings(**values: str) -> OperationSettings:
    return OperationSettings.model_validate(values)


def fresh() -> Any:
    """A logger that was not used, and so not cached, under another configuration."""
    return logger(f"test.{uuid4()}")


def test_a_line_is_json_with_time_level_logger_event_and_values(lines: Written) -> None:
    log = fresh()
    log.info("task accepted", queue="webhooks", number=3, text='quotes " and\nnew lines', odd=object)

    (line,) = lines()

    assert (line["event"], line["level"], line["queue"], line["number"]) == ("task accepted", "info", "webhooks", 3)
    assert line["logger"].startswith("test.")
    assert line["timestamp"].endswith("Z")
    assert line["text"] == 'quotes " and\nnew lines'


def test_lines_of_libraries_come_in_the_same_form(lines: Written) -> None:
    logging.getLogger("some.library").warning("lost %s of %d", "two", 3, extra={"queue": "crm"})

    (line,) = lines()

    assert (line["event"], line["level"], line["logger"], line["queue"]) == (
        "lost two of 3",
        "warning",
        "some.library",
        "crm",
    )


def test_bound_ids_are_in_every_later_line_also_in_those_of_libraries(lines: Written) -> None:
    bind(task_id="t-1", request_id="r-1")
    fresh().info("one")
    logging.getLogger("some.library").warning("two")
    bind(request_id=None)
    fresh().info("three")
    unbind_all()
    fresh().info("four")

    one, two, three, four = lines()

    assert (one["task_id"], one["request_id"]) == (two["task_id"], two["request_id"]) == ("t-1", "r-1")
    assert (three["task_id"], "request_id" in three) == ("t-1", False)
    assert "task_id" not in four


def test_ids_of_one_thread_are_not_in_the_lines_of_another(lines: Written) -> None:
    bind(task_id="t-1")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(fresh().info, "elsewhere").result()

    (line,) = lines()

    assert "task_id" not in line


@pytest.mark.parametrize(
    "name",
    [
        "secret",
        "app_secret",
        "FACEBOOK_APP_SECRET",
        "password",
        "token",
        "verify_token",
        "api_key",
        "X-Api-Key",
        "google_key",
        "Authorization",
        "signature",
        "X-Hub-Signature-256",
    ],
)
def test_values_named_like_secrets_are_hidden(lines: Written, name: str) -> None:
    fresh().info("event", **{name: "hunter2"})
    fresh().info("event", headers={name: "hunter2", "inner": [{name: "hunter2"}]})

    assert "hunter2" not in json.dumps(lines())


def test_the_arguments_of_a_failed_task_are_not_in_celerys_line_about_it(lines: Written) -> None:
    values = {"id": "t-1", "args": "('hidden',)", "kwargs": "{'url': 'https://example.com/?token=hidden'}"}
    logging.getLogger("celery.app.trace").error("Task t-1 raised unexpected", extra={"data": values})

    assert lines()[0]["data"]["id"] == "t-1"
    assert "hidden" not in lines.text


def test_numbers_named_like_tokens_are_kept(lines: Written) -> None:
    fresh().info("reply", prompt_tokens=7)

    assert lines()[0]["prompt_tokens"] == 7


LOGIN = "redis://user:hunter2@db:6379/0"


def test_logins_are_removed_from_all_addresses(lines: Written) -> None:
    log = fresh()
    log.info(f"connecting to {LOGIN}", url=LOGIN, urls=[LOGIN], nested={"url": LOGIN})
    log.info("connecting to %s", LOGIN)
    logging.getLogger("some.library").warning("connecting to %s", LOGIN)

    assert "hunter2" not in lines.text
    assert lines()[0]["url"] == "redis://db:6379/0"
    assert all("db:6379" in line["event"] for line in lines())


@pytest.mark.parametrize("as_json", [True, False])
def test_logins_are_removed_from_tracebacks(written: Written, as_json: bool) -> None:
    written.configure(settings(), json=as_json)
    address = "redis://user:" + "2retnuh"[::-1] + "@db"
    try:
        raise OSError(f"cannot reach {address}")
    except OSError:
        fresh().exception("gone")
        logging.getLogger("some.library").exception("gone too")

    assert written.text.count("OSError: cannot reach redis://db") == 2
    assert "hunter2" not in written.text


def test_tokens_in_addresses_are_hidden_by_their_name_or_their_length() -> None:
    for given, shown in (
        (
            "POST https://x.example/hook?token=hunter2&page=2#end",
            "POST https://x.example/hook?token=[redacted]&page=2#end",
        ),
        ("https://x.example/?X-Amz-Signature=hunter2", "https://x.example/?X-Amz-Signature=[redacted]"),
        ("https://x.example/?k=0123456789abcdef0123", "https://x.example/?k=[redacted]"),
        ("https://x.example/?k=short and more", "https://x.example/?k=short and more"),
        ("no address ?token=5", "no address ?token=5"),
    ):
        assert without_secrets({"url": [given]}) == {"url": [shown]}


def test_an_address_without_a_login_is_unchanged(lines: Written) -> None:
    fresh().info("see https://example.com/a?mail=me@example.com")

    assert lines()[0]["event"] == "see https://example.com/a?mail=me@example.com"


def test_in_a_terminal_a_line_is_readable_text(written: Written) -> None:
    written.configure(settings(), json=False)
    fresh().warning("task ended", state="completed", secret="hunter2")

    assert "task ended" in written.text
    assert "state=completed" in written.text
    assert "hunter2" not in written.text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, False),
        ({"ENVIRONMENT": "production"}, True),
        ({"LOG_FORMAT": "json"}, True),
        ({"ENVIRONMENT": "production", "LOG_FORMAT": "console"}, False),
    ],
)
def test_the_form_of_lines_follows_the_settings(given: dict[str, str], expected: bool) -> None:
    assert wants_json(settings(**given)) is expected


def test_lines_below_the_level_are_not_written(lines: Written) -> None:
    lines.configure(quiet(settings()), json=True)
    fresh().info("too quiet")
    fresh().warning("still too quiet")
    fresh().error("loud enough")
    logging.getLogger("httpx").info("noise")

    assert [line["event"] for line in lines()] == ["loud enough"]


def test_the_handlers_of_celery_and_uvicorn_are_replaced(lines: Written) -> None:
    for name in ("uvicorn.error", "celery.worker"):
        logging.getLogger(name).addHandler(logging.StreamHandler())
    lines.configure(settings(), json=True)

    logging.getLogger("uvicorn.error").warning("started")

    assert len(lines()) == 1


def test_a_program_that_sets_up_no_log_sees_nothing_but_warnings_and_none_of_it_on_standard_output(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    structlog.reset_defaults()
    log_by_the_program()

    logger("laneway.x").info("task accepted", task="greet")
    with caplog.at_level(logging.INFO):
        logger("laneway.x").info("task accepted", task="greet", password="planted-4711", name="of no record", args=1)
        logger("laneway.x").warning("100 % sure", count=1)

    assert capsys.readouterr().out == ""
    assert caplog.messages == [
        "event='task accepted' task='greet' password='[redacted]' name='of no record' args='[redacted]'",
        "event='100 % sure' count=1",
    ]


def test_a_program_that_uses_structlog_keeps_its_configuration() -> None:
    with structlog.testing.capture_logs() as lines:
        log_by_the_program()
        logger("laneway.x").info("task accepted")

    assert lines == [{"event": "task accepted", "log_level": "info"}]
