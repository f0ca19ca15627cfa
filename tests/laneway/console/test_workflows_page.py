"""The pages of workflows: the list, and one run with its graph, its steps and what can be done."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import update

from laneway.platform.access.scopes import Scope
from laneway.platform.access.token_rights import TokenRights
from laneway.platform.db.models import WorkflowRun, WorkflowStepRun
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import Api, refused

INPUTS = {"tasks_per_week": 20, "time_per_task_minutes": 5, "hourly_wage": 25, "automation_percent": 80}
HOSTILE = "<script>alert(1)</script>"


def start(api: Api, id: str, headers: dict[str, str] | None = None) -> str:
    """Start a run; returns the address of its page."""
    body = {"workflow_type": "savings_assessment", "input": INPUTS, "id": id}
    answer = api.http.post("/api/workflows", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return f"/console/workflows/{id}"


def fail(api: Api, error: str, output: dict[str, object]) -> None:
    """Let every run have failed in its first step."""
    with api.database.transaction() as session:
        session.execute(update(WorkflowRun).values(state="failed", error=error))
        session.execute(update(WorkflowStepRun).values(state="failed", error=error, error_type="E", output=output))


def page(api: Api, address: str, headers: dict[str, str] | None = None) -> str:
    """The HTML of a page."""
    answer = api.http.get(address, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_the_list_without_runs_says_how_one_comes_to_be(api: Api) -> None:
    assert "No workflow was started yet. POST /api/workflows starts one." in page(api, "/console/workflows")


def test_the_list_is_filtered_by_state_and_type(api: Api) -> None:
    start(api, "w-1")
    linked = 'href="/console/workflows/w-1"'

    assert linked in page(api, "/console/workflows?state=pending&type=savings_assessment")
    for query in ("state=failed", "type=customer_followup", "before=1"):
        html = page(api, f"/console/workflows?{query}")
        assert linked not in html
        assert "No workflow matches." in html
    assert "state" in refused(api, "/console/workflows?state=odd", 422)
    assert "odd" in refused(api, "/console/workflows?odd=1", 422)


def test_a_paused_run_says_who_paused_it_and_offers_to_resume_it(api: Api) -> None:
    address = start(api, "w-1")
    assert 'data-call="POST /api/workflows/w-1/pause"' in page(api, address)
    paused = api.http.post("/api/workflows/w-1/pause").json()

    html = page(api, address)
    assert 'data-call="POST /api/workflows/w-1/resume"' in html
    assert 'data-call="POST /api/workflows/w-1/pause"' not in html
    assert f"{paused['paused_by']} paused it at" in html
    assert '<span class="badge paused">paused</span>' in page(api, "/console/workflows")


def test_a_run_shows_its_graph_its_steps_and_why_it_waits(api: Api) -> None:
    html = page(api, start(api, "w-1"))

    assert 'href="#step-validate" aria-label="Step validate: pending"' in html
    assert 'href="#step-summary" aria-label="Step summary: to come"' in html
    assert 'id="step-summary"' in html
    assert 'href="/console/tasks/w-1%3Avalidate%3A1"' in html
    assert "The step validate waits for a worker: none serves the queue" in html
    assert 'data-call="POST /api/workflows/w-1/cancel"' in html
    assert "/retry" not in html
    assert "none" in refused(api, "/console/workflows/none", 404)


def test_what_the_buttons_call_is_what_the_api_does(api: Api) -> None:
    address = start(api, "w-1")
    assert api.http.post("/api/workflows/w-1/cancel").status_code == 200
    html = page(api, address)

    assert "cancelled" in html
    assert "{&#34;from&#34;: &#34;start&#34;}" in html
    again = api.http.post("/api/workflows/w-1/retry", json={"from": "start"}).json()["workflow_id"]
    assert 'href="/console/workflows/w-1"' in page(api, f"/console/workflows/{again}")


def test_hostile_text_is_shown_as_text_and_secrets_are_hidden(api: Api) -> None:
    address = start(api, "w-1")
    fail(api, HOSTILE, {"said": HOSTILE, "password": "hunter2"})

    for html in (page(api, "/console/workflows"), page(api, address)):
        assert HOSTILE not in html
        assert "&lt;script&gt;alert(1)" in html
    assert "hunter2" not in page(api, address)


def test_a_large_output_is_not_sent_to_each_open_page(api: Api) -> None:
    address = start(api, "w-1")
    fail(api, "e", {"text": "x" * 50_000})
    html = page(api, address)

    assert "too many for this page" in html
    assert "x" * 1000 not in html


def test_a_reader_is_shown_no_action(make_api: MakeApi) -> None:
    api = make_api(AUTHENTICATION="on")

    def bearer(name: str, *scopes: str) -> dict[str, str]:
        made = api.services.tokens.create(name, TokenRights(scopes=frozenset(scopes)), expires=timedelta(days=1))
        return {"Authorization": f"Bearer {made.token}"}

    reader, operator = bearer("reader", Scope.READ), bearer("operator", Scope.READ, Scope.OPERATE)
    address = start(api, "w-1", bearer("submitter", Scope.SUBMIT))

    assert "/api/workflows/w-1/" in page(api, address, operator)
    assert "/api/workflows/w-1/" not in page(api, address, reader)
