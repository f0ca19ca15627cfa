"""The metrics are exact over workers, killed processes and replaced pool children, and Prometheus reads them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from sqlalchemy import func, select

from app.core.settings import ROOT
from laneway.platform.access.token_rights import TokenRights
from laneway.platform.db.models import TaskAttempt, TaskRun
from tests.acceptance.conftest import Report
from tests.fixtures.ending import end_group
from tests.fixtures.site import START_SECONDS, Site, running_site
from tests.fixtures.tasks_for_tests import FAILING, GATED, Failing, Gated
from tests.fixtures.valkey import free_port
from tests.fixtures.waiting import wait_until

DEPLOY = ROOT / "deploy"
SHARED = re.compile(r"laneway_(?!\w*(latency|lag_seconds|oldest_seconds|memory|metrics_seconds|worker|build))\w+")
"""Metrics that are equal in every process of the API while nothing happens."""
TASK_OF: dict[str, Any] = {
    "completes": Failing(times=0),
    "retried": Failing(times=1),
    "killed": Failing(times=1, how="kill"),
}
TASK_OF |= {"fails": Failing(times=9, how="permanent"), "given up": Failing(times=99)}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An installation that wants tokens."""
    with running_site(tmp_path_factory.mktemp("metrics"), AUTHENTICATION="on", TASK_MAX_RETRIES="2") as site:
        yield site


@pytest.fixture(scope="module")
def token(guarded: Site) -> str:
    """The token of Prometheus."""
    rights = TokenRights(scopes=frozenset({"tasks:read"}))
    return guarded.services.tokens.create("prometheus", rights, expires=None).token


def samples(port: int, token: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """(name, labels) → value, as a process of the API shows them."""
    headers = {"Authorization": f"Bearer {token}"}
    answer = httpx.get(f"http://127.0.0.1:{port}/metrics", headers=headers, timeout=30, trust_env=False)
    assert answer.status_code == 200, answer.text
    families: Any = text_string_to_metric_families(answer.text)
    return {
        (each.name, tuple(sorted(each.labels.items()))): each.value for family in families for each in family.samples
    }


def by_label(found: dict[Any, float], name: str, label: str, *, task: str) -> dict[str, int]:
    """Value of a label → the counter of the task, where it is not 0."""
    return {
        dict(labels)[label]: int(value)
        for (sample, labels), value in found.items()
        if sample == name and dict(labels).get("task") == task and value
    }


def test_counters_add_up_over_workers_and_processes_that_end(guarded: Site, token: str, figure: Report) -> None:
    other_port = free_port()
    guarded.api()
    guarded.start("api2", "uvicorn", "app.main:app", "--port", str(other_port), "--no-access-log")
    workers = [guarded.worker(f"w{number}", "--max-tasks-per-child", "3") for number in (1, 2)]
    ids = [guarded.submit(FAILING, payload) for payload in TASK_OF.values() for _ in range(8)]
    gate = guarded.gate()
    gated = guarded.submit(GATED, Gated(gate=str(gate)))
    pid = guarded.until_event("began", gated)
    held = next(worker for worker in workers if pid in {child.pid for child in worker.children()})
    held.kill()
    guarded.worker("w3", "--max-tasks-per-child", "3")
    gate.open()
    runs = guarded.until_all_over([*ids, gated], seconds=120)
    wait_until(lambda: not any(guarded.services.recorder.unread().values()), seconds=30)

    with guarded.services.database.reading() as session:
        pairs = select(TaskAttempt.outcome, func.count()).join(TaskRun, TaskRun.id == TaskAttempt.task_id)
        attempts: Any = session.execute(pairs.where(TaskRun.name == FAILING.name).group_by(TaskAttempt.outcome)).all()
    wait_until(lambda: answers(other_port), seconds=START_SECONDS)
    found, others = samples(guarded.api_port, token), samples(other_port, token)

    states = Counter(str(run.state) for run in runs[:-1])
    assert states == {"completed": 24, "failed": 8, "dead_letter": 8}
    assert by_label(found, "laneway_tasks_enqueued_total", "task", task=FAILING.name) == {FAILING.name: 40}
    assert by_label(found, "laneway_tasks_finished_total", "state", task=FAILING.name) == states
    assert by_label(found, "laneway_tasks_finished_total", "state", task=GATED.name) == {"completed": 1}
    ended = by_label(found, "laneway_attempts_ended_total", "outcome", task=FAILING.name)
    assert ended == dict(attempts)
    started = by_label(found, "laneway_attempts_started_total", "task", task=FAILING.name)[FAILING.name]
    assert started == sum(ended.values()) == len([e for e in guarded.events() if e[0] == "began" and e[1] in set(ids)])
    counts = by_label(found, "laneway_task_running_seconds_count", "task", task=FAILING.name)
    assert counts == {FAILING.name: started - ended.get("lost", 0)}
    children = len({event[3] for event in guarded.events()})
    figure("metrics: attempts, by so many pool processes", (started, children))
    assert children > 12, "pool processes were replaced"
    assert {key: value for key, value in found.items() if SHARED.fullmatch(key[0])} == {
        key: value for key, value in others.items() if SHARED.fullmatch(key[0])
    }, "every process of the API gives the same answer"
    assert len([key for key in found if SHARED.fullmatch(key[0])]) > 300


def answers(port: int) -> bool:
    """Whether an API answers at the port."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/live", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


# --- Prometheus ---------------------------------------------------------------------------------------------


def installed(program: str) -> str:
    """The path of a program of Debian's package `prometheus`. Skips the test if it is missing, and fails it in CI."""
    found = shutil.which(program)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"CI needs {program}: install the package prometheus")
        pytest.skip(f"{program} is not installed (Debian: prometheus)")
    return found


def test_the_configuration_and_the_rules_are_valid_and_fire_when_they_should() -> None:
    promtool, folder = installed("promtool"), DEPLOY / "prometheus"
    for arguments in (
        ("check", "config", "--syntax-only", "prometheus.yml"),
        ("check", "rules", "laneway.rules.yml"),
        ("test", "rules", "laneway.rules.test.yml"),
    ):
        ran = subprocess.run([promtool, *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_is_tested() -> None:
    def groups(file: str) -> Any:
        return yaml.safe_load((DEPLOY / "prometheus" / file).read_text("utf-8"))

    alerts = {
        rule["alert"] for group in groups("laneway.rules.yml")["groups"] for rule in group["rules"] if "alert" in rule
    }
    fired = {
        case["alertname"]
        for test in groups("laneway.rules.test.yml")["tests"]
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    assert alerts == fired


class Prometheus:
    """A server with our configuration, which scrapes every half second instead of every 15 s."""

    def __init__(self, program: str, folder: Path, *, target: str, token: str) -> None:
        folder.mkdir()
        (folder / "token").write_text(token)
        shutil.copy(DEPLOY / "prometheus" / "laneway.rules.yml", folder)
        config: Any = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
        config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        scrape = config["scrape_configs"][0]
        scrape["authorization"]["credentials_file"] = str(folder / "token")
        scrape["static_configs"][0]["targets"] = [target]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        port = free_port()
        argv = [program, "--config.file=prometheus.yml", f"--storage.tsdb.path={folder / 'data'}"]
        argv += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = psutil.Popen(argv, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30, trust_env=False)
        self.ready = f"http://127.0.0.1:{port}/-/ready"

    def is_ready(self) -> bool:
        """Whether it answers queries."""
        try:
            return self.http.get(self.ready).status_code == 200
        except httpx.HTTPError:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What an expression gives now; it must be valid."""
        answer = self.http.get("/query", params={"query": expression})
        assert answer.status_code == 200, f"{expression}: {answer.text}"
        return answer.json()["data"]["result"]

    def value(self, expression: str) -> float | None:
        """The value of an expression that gives one, or None."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else None

    def close(self) -> None:
        """End the server."""
        self.http.close()
        end_group(self.process)


@pytest.fixture
def prometheus(guarded: Site, token: str) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the API of the installation."""
    target = f"127.0.0.1:{guarded.api_port}"
    server = Prometheus(installed("prometheus"), guarded.folder / "prometheus", target=target, token=token)
    try:
        wait_until(server.is_ready, seconds=START_SECONDS)
        yield server
    finally:
        server.close()


def expressions() -> dict[str, str]:
    """Dashboard, panel and legend → its expression, for all queues and tasks."""
    found: dict[str, str] = {}
    for file in sorted((DEPLOY / "grafana").glob("*.json")):
        for panel in json.loads(file.read_text("utf-8"))["panels"]:
            for target in panel.get("targets", ()):
                text = target["expr"].replace("$queue", ".*").replace("$task", ".*")
                found[f"{file.stem}: {panel['title']}: {target['refId']}"] = text
    return found


def test_prometheus_scrapes_with_a_token_and_every_panel_shows_something(guarded: Site, prometheus: Prometheus) -> None:
    if not guarded.api_answers():
        guarded.api()
    if not any(node.name.startswith("w") and not node.ended for node in guarded.nodes):
        guarded.worker("w4")
    wait_until(lambda: prometheus.value('up{job="laneway"}') == 1, seconds=START_SECONDS)
    wait_until(lambda: prometheus.value("laneway_broker_up") == 1, seconds=START_SECONDS)
    payloads = [Failing(times=0), Failing(times=9, how="permanent")]

    def run_and_read(expression: str) -> float | None:
        """Run more tasks first: Prometheus sees no increase in a counter that appears with its last value."""
        guarded.until_all_over([guarded.submit(FAILING, payload) for payload in payloads])
        return prometheus.value(expression)

    ended = f'sum(rate(laneway_tasks_finished_total{{task="{FAILING.name}"}}[5m])) > 0'
    wait_until(lambda: run_and_read(ended), seconds=60)
    wait_until(lambda: run_and_read("laneway:failed:share10m"), seconds=60)

    empty = {name for name, expression in expressions().items() if not prometheus.query(expression)}

    assert len(expressions()) > 35
    assert {name for name in empty if "Canaries" not in name} == set(), "the installations of tests have no canaries"
    rules = prometheus.http.get("/rules").json()["data"]["groups"]
    assert {
        rule["name"]: rule.get("lastError", "") for group in rules for rule in group["rules"] if rule["health"] != "ok"
    } == {}
    assert "err" not in prometheus.log.read_text()


def test_without_a_token_prometheus_learns_nothing(guarded: Site) -> None:
    if not guarded.api_answers():
        guarded.api()
    assert guarded.http.get("/metrics").status_code == 401
