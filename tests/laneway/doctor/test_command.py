"""`laneway doctor APP`: a Celery app without the platform, with a real server. It runs what docs/doctor.md shows."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

import laneway
from laneway.adopt.project import Project
from laneway.cli.main import main
from laneway.doctor import command
from laneway.doctor.findings import Diagnosis, Unchecked
from laneway.doctor.parts import examine
from laneway.doctor.plain import plain_parts
from tests.fixtures.valkey import RedisUrls, RunningValkey

SHOP = """
from celery import Celery
import laneway

app = Celery("shop", broker="{broker}", backend="{backend}")
laneway.install(app)
app.conf.task_acks_late = {late}
app.conf.task_reject_on_worker_lost = True
app.conf.worker_prefetch_multiplier = 1
app.conf.task_time_limit = 60


@app.task
def add(x, y):
    return x + y
"""


@pytest.fixture
def shop(tmp_path: Path, redis_urls: RedisUrls, monkeypatch: pytest.MonkeyPatch, request: Any) -> Iterator[str]:
    """The name of an app in a folder of its own."""
    name = f"shop_{abs(hash(request.node.name))}"
    text = SHOP.format(broker=redis_urls.broker, backend=redis_urls.backend, late=getattr(request, "param", True))
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield f"{name}:app"
    sys.modules.pop(name, None)


def by_check(diagnosis: Diagnosis) -> dict[str, str]:
    """`area: check` → the severity of the finding."""
    return {f"{each.area}: {each.check}": getattr(each.outcome, "severity", "").value for each in diagnosis.findings()}


def test_a_plain_app_is_examined_and_says_what_needs_the_platform(
    shop: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = command.main([shop, "--json"])

    data = json.loads(capsys.readouterr().out)
    found = {f"{each['area']}: {each['check']}": each["severity"] for each in data["findings"]}
    found.pop("server: slow commands", None)  # of other tests on a machine with much to do
    assert found == {"server: login": "warning", "server: memory": "warning", "fleet: workers": "error"}
    assert code == 1
    not_checked = {each["area"]: each["reason"] for each in data["not_checked"]}
    assert "needs a project of the platform" in not_checked["database"]
    assert "needs a project of the platform" in not_checked["settings"]


@pytest.mark.parametrize("shop", [False], indirect=True)
def test_a_setting_that_hurts_is_found_by_its_name(shop: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([shop, "--quiet"]) == 1

    out = capsys.readouterr().out
    assert "ERROR  celery: task_acks_late" in out
    assert "app.conf.task_acks_late = True" in out
    assert "Fine:" not in out


def test_a_name_that_is_no_app_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["nowhere.at:all"]) == 2
    assert "names no Celery app" in capsys.readouterr().err


def test_the_command_needs_none_of_the_packages_of_the_platform(
    shop: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("laneway._extras._is_installed", lambda package: package != "typer")
    monkeypatch.setattr(sys, "argv", ["laneway", "doctor", shop])

    with pytest.raises(SystemExit) as end:
        main()

    assert end.value.code == 1
    assert "fleet: workers" in capsys.readouterr().out


def plain_app(urls: RedisUrls) -> Celery:
    app = Celery("plain", broker=urls.broker, backend=urls.backend, set_as_current=False)
    laneway.install(app)
    return app


def test_a_frozen_server_is_a_finding_within_the_time(redis_urls: RedisUrls) -> None:
    with redis_urls.valkey.frozen():
        found = examine(plain_parts(Project(plain_app(redis_urls))), seconds=1.5)

    assert by_check(found)["server: reachable"] == "error"
    assert {each.area for each in found.fine} >= {"versions", "celery"}, "the others are checked nevertheless"


def test_a_server_that_is_away_is_a_finding(tmp_path: Path) -> None:
    away = RunningValkey(tmp_path, port=1)
    urls = RedisUrls(away.url(0), away.url(1), away)

    found = examine(plain_parts(Project(plain_app(urls))))

    assert by_check(found)["server: reachable"] == "error"
    (fleet,) = [each.outcome for each in found.results if each.area == "fleet"]
    assert isinstance(fleet, Unchecked)
    assert fleet.reason.startswith("the broker cannot be asked")


def test_messages_of_unknown_queues_and_paused_queues_are_seen(redis_urls: RedisUrls) -> None:
    app, other = plain_app(redis_urls), plain_app(redis_urls)
    engine = Project(app).connect(None)
    other.send_task("x", queue="nobody")
    engine.pause("celery")

    found = examine(plain_parts(Project(app)))
    engine.close()
    other.close()

    checks = by_check(found)
    assert (checks["fleet: unknown queues"], checks["fleet: paused queues"]) == ("warning", "warning")
