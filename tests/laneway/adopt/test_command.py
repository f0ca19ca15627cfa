"""The command `laneway adopt` in a Celery project."""

from __future__ import annotations

import importlib
import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from celery import _state

from laneway.adopt.command import main
from laneway.adopt.project import Project
from laneway.adopt.settings_review import Effect, review
from laneway.cli import main as entry
from laneway.engine import Engine
from tests.fixtures.valkey import RedisUrls
from tests.laneway.adopt.conftest import APP

NAME = f"{APP}:app"


def dump(engine: Engine) -> dict[bytes, bytes]:
    """All keys of a database with their values."""
    return {key: engine.runner.call("DUMP", key) for key in engine.runner.call("KEYS", "*")}


def test_without_apply_it_counts_and_changes_nothing(
    shop: Any, broker: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        shop.add.apply_async((1, 2), priority=3)
    shop.slow.apply_async(("x",), countdown=600)
    shop.app.send_task("of.another.project", queue="theirs")
    broker.runner.call("LPUSH", "celery\x06\x167", broker.runner.call("LINDEX", "celery\x06\x163", 0))
    broker.runner.call("LPUSH", "old:celery", broker.runner.call("LINDEX", "celery\x06\x163", 0))
    broker.runner.call("LPUSH", "numbers", 1, 2, 3)
    shop.app.amqp.queues.pop("theirs")
    before = dump(broker)

    assert main([NAME, "--json"]) == 0

    assert dump(broker) == before
    report = json.loads(capsys.readouterr().out)
    found = {(each["queue"], each["step"]): (each["before"], each["moved"]) for each in report["sources"]}
    assert found == {("", 0): (0, 0), ("celery", 3): (3, 3), ("celery", 7): (1, 1), ("slow", 0): (1, 1)}
    unread = {each["key"]: each["why"] for each in report["unread"]}
    assert unread == {
        "theirs": "no worker of the app consumes it",
        "old:celery": "its key prefix is 'old:', that of the app is ''",
    }
    (wrong,) = [each["why_unread"] for each in report["sources"] if each["step"] == 7]
    assert wrong == "priority_steps does not contain 7"
    assert (report["applied"], report["workers"], report["moved"]) == (False, [], 5)


def test_apply_moves_and_the_numbers_agree(
    shop: Any, broker: Engine, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shop.add.delay(1, 2)
    revoked = shop.add.delay(1, 2)
    shop.app.send_task("shop.add", args=(1, 2), queue="extra")
    shop.app.amqp.queues.pop("extra")
    report = tmp_path / "before.json"
    report.write_text(json.dumps({"revoked": [revoked.id]}))

    assert main([NAME, "--apply", "--queue", "extra", "--revoked", str(report)]) == 0

    said = capsys.readouterr().out
    assert "laneway.install(app, zero_goes_first=True)" in said
    assert "1 left: it was revoked" in said
    assert "Moved 2, left 1; all runs together moved 2." in said
    assert "The numbers before and after agree." in said
    assert [broker.stats([queue])[0].waiting for queue in ("celery", "extra")] == [1, 1]


def test_messages_go_to_another_server_with_to(
    shop: Any, broker: Engine, engine: Engine, engine_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(520):
        shop.add.delay(1, 2)

    assert main([NAME, "--apply", "--to", engine_url, "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["moved"] == 520
    assert engine.stats(["celery"])[0].waiting == 520
    assert broker.runner.call("KEYS", "celery*") == []
    assert engine.runner.call("EXISTS", "laneway:adopting", "laneway:adopt-lock") == 0


def test_a_second_run_between_two_servers_is_refused(
    shop: Any, engine: Engine, engine_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.runner.call("SET", "laneway:adopt-lock", "another")
    shop.add.delay(1, 2)

    assert main([NAME, "--apply", "--to", engine_url]) == 1

    assert "Another `laneway adopt`" in capsys.readouterr().err
    assert engine.runner.call("GET", "laneway:adopt-lock") == b"another"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no.such.module:app"], "names no Celery app"),
        ([f"{APP}:note"], "names no Celery app"),
        ([NAME, "--apply", "--from", "amqp://127.0.0.1/"], "only messages on Redis or Valkey can be moved"),
        ([NAME, "--from", "redis://127.0.0.1:1/0"], "cannot be reached"),
        ([NAME, "--revoked", "/no/such/file"], "is no report"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    shop: Any, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(words) == 1

    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_a_broker_that_is_not_redis_gets_the_settings_and_what_is_possible(
    shop: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([NAME, "--from", "amqp://user:secret@127.0.0.1//"]) == 1

    said = capsys.readouterr().out
    assert "does not work" in said
    assert "let the old workers empty the old one" in said


def test_each_setting_that_matters_has_a_row(shop: Any, redis_urls: RedisUrls) -> None:
    shop.app.conf.update(
        broker_transport_options={"visibility_timeout": 60, "fanout_prefix": True, "global_keyprefix": "x", "lease": 9},
        task_serializer="pickle",
        accept_content=["pickle"],
        task_protocol=1,
        task_queue_max_priority=9,
        result_backend="rpc://",
        task_acks_late=False,
        task_routes=[{"a": {"queue": "b"}}],
    )
    rows = {row.setting: row for row in review(Project(shop.app))}

    assert rows["visibility_timeout"].effect is Effect.UNUSED
    assert rows["fanout_prefix"].effect is Effect.UNUSED
    assert rows["global_keyprefix"].effect is Effect.SAME
    assert "pickle" in rows["task_serializer"].meaning
    assert rows["task_protocol"].effect is Effect.CHANGED
    assert rows["result_backend"].effect is Effect.CHANGED
    assert rows["task_acks_late"].edit
    assert Project(shop.app).routed == {"b"}
    review(Project(shop.app, "sentinel://host"))


def test_an_app_on_the_engine_needs_no_edit_for_it(
    shop: Any, broker: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.add.delay(1, 2)
    monkeypatch.setenv("ENGINE", "yes")
    sys.modules.pop(APP)
    module = importlib.import_module(APP)

    assert main([NAME, "--apply"]) == 0

    said = capsys.readouterr().out
    assert "the app is on the engine already" in said
    assert "laneway.install(" not in said
    assert broker.stats(["celery"])[0].waiting == 1
    module.notes.close()
    module.app.close()


def test_it_works_without_the_packages_of_the_extra(
    shop: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(entry, "PACKAGES", ("no_such_package",))
    monkeypatch.setattr(sys, "argv", ["laneway", "adopt", NAME, "--json"])

    with pytest.raises(SystemExit) as end:
        entry.main()

    assert end.value.code == 0
    assert json.loads(capsys.readouterr().out)["before"] == 0


def test_the_snippets_of_the_page_run(redis_urls: RedisUrls) -> None:
    page = (Path(__file__).parents[3] / "docs" / "from-celery.md").read_text("utf-8")
    snippets = [
        textwrap.dedent(text) for text in re.findall(r"^ *```python\n(.*?)^ *```", page, re.DOTALL | re.MULTILINE)
    ]
    names: dict[str, Any] = {"__name__": "page"}
    announced = set(_state._on_app_finalizers)  # pyright: ignore[reportPrivateUsage]

    for snippet in snippets:
        exec(snippet.replace("redis://127.0.0.1:6379/0", redis_urls.broker), names)  # noqa: S102 - our own page

    assert len(snippets) == 2
    assert names["number"] == 0
    assert names["app"].conf.broker_transport == "laneway:Transport"
    names["engine"].close()
    names["app"].close()
    # shared tasks: else they are announced to every application that this process makes from now on
    _state._on_app_finalizers.intersection_update(announced)  # pyright: ignore[reportPrivateUsage]
