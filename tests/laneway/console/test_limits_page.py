"""The console's page of the limits that tasks share, and the ways that lead to it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from laneway import Limit
from laneway.platform import clock
from laneway.platform.access.scopes import Scope
from laneway.platform.db.models import NamedLimitRow
from laneway.platform.flow.task_flow import TaskFlow
from laneway.platform.registry import registry
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import Api, submit
from tests.fixtures.console_pages import ESCAPED, HOSTILE, Page
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.registry import register_spec
from tests.laneway.api.test_access import bearer

TASK, QUEUE = "cleanup_old_data_task", "maintenance"


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task with a limit."""
    register_spec(monkeypatch, replace(registry[TASK], flow=TaskFlow(limits=(Limit("crm-api", rate=1, per=60),))))


def test_without_limits_the_page_says_how_there_are_some(page: Page) -> None:
    assert "There is no limit." in page("/console/limits")
    assert "No limit matches." in page("/console/limits?name=nothing")


@pytest.mark.usefixtures("limit")
def test_a_limit_shows_what_it_lets_through_and_can_be_changed(api: Api, page: Page) -> None:
    text = page("/console/limits")
    assert 'id="limit-crm-api"' in text and "1 in 1 min" in text and "set by the code" in text
    assert "data-call" not in text, "what the code declares cannot be removed"
    assert "&#34;rate&#34;: 1" in text and 'data-form="PUT /limits/{name}"' in text

    assert api.http.put("/limits/crm-api", json={"max_running": 2}).status_code == 200
    api.services.block_limit("crm-api", 600, key="")
    text = page(f"/console/limits?queue={QUEUE}")
    assert "2 running" in text and "0 of 2" in text and ">closed<" in text
    assert 'data-call="DELETE /limits/crm-api"' in text
    assert "No limit matches." in page("/console/limits?queue=crm")


@pytest.mark.usefixtures("limit")
def test_the_queue_and_the_waiting_task_lead_to_the_limit(api: Api, page: Page) -> None:
    assert f'href="/console/limits?queue={QUEUE}">1 shared limit<' in page("/console")
    api.services.block_limit("crm-api", 600, key="")
    id = submit(api, TASK)
    engine = api.services.broker.engine
    assert engine is not None
    from laneway.engine import RoundRobin

    api.services.broker.prepare()
    assert engine.fetch(RoundRobin({QUEUE: 1}), 1).deliveries == []
    text = page(f"/console/tasks/{id}")
    assert 'href="/console/limits?name=crm-api#limit-crm-api">Show the limit<' in text
    assert ", until 20" in text and "; a service has asked to wait" in text


@ONE_DATABASE
def test_many_limits_are_bounded_and_hostile_names_are_text(api: Api, page: Page) -> None:
    with api.services.database.transaction() as session:
        values = {"rate": 1, "per_seconds": 1.0, "burst": 1, "max_running": None, "updated_at": clock.now()}
        session.add_all(NamedLimitRow(name=f"limit-{number:04}", **values) for number in range(1000))
        session.add(NamedLimitRow(name=HOSTILE, **values))
    text = page("/console/limits")
    assert text.count("data-row") == 200 and "Only the first 200 by name are shown." in text
    assert HOSTILE not in text and ESCAPED in text
    assert page("/console/limits?name=limit-0999").count("data-row") == 1


@ONE_DATABASE
@pytest.mark.usefixtures("limit")
def test_only_operators_get_buttons(make_api: MakeApi) -> None:
    api = make_api(AUTHENTICATION="on")
    reader, operator = bearer(api, Scope.READ), bearer(api, Scope.READ, Scope.QUEUES)
    assert "set-limit" not in api.http.get("/console/limits", headers=reader).text
    assert "set-limit" in api.http.get("/console/limits", headers=operator).text
    assert api.http.get("/console/limits", headers=bearer(api, Scope.SUBMIT)).status_code == 403


@ONE_DATABASE
@pytest.mark.usefixtures("limit")
def test_without_the_broker_nothing_is_known_and_the_page_says_so(
    api: Api, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    from laneway.platform.errors import BrokerUnavailable

    def fails(*_: object) -> None:
        raise BrokerUnavailable("gone")

    assert api.services.broker.engine is not None
    monkeypatch.setattr(api.services.broker.engine, "named_limits", fails)
    text = page("/console/limits")
    assert "The broker does not answer" in text and text.count(">unknown<") == 2
