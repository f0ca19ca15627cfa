"""Workflows through real processes: a killed worker, a broker that is down, a slow step, many at once."""

from __future__ import annotations

import asyncio
from statistics import fmean, quantiles
from time import monotonic
from typing import Any

import httpx

from laneway.platform.workflows.definitions import checked_plan, parsed_definition
from laneway.platform.workflows.runs import StartOptions
from laneway.schemas.workflow_run import RunState, WorkflowView
from tests.acceptance.conftest import Report
from tests.fixtures import handlers_for_tests as _handlers
from tests.fixtures.site import Site
from tests.fixtures.waiting import wait_until

assert _handlers  # importing the module registers the handlers in this process
CHAT: dict[str, Any] = {
    "agent_id": "agent-7",
    "mode": "execute",
    "context": {
        "workflow_type": "savings_assessment",
        "calculator_inputs": {
            "tasks_per_week": 20,
            "time_per_task_minutes": 5,
            "hourly_wage": 25,
            "automation_percent": 80,
        },
    },
}
CROWD = 100


def start(site: Site, id: str, *steps: dict[str, Any], **given: Any) -> str:
    """Start a workflow with the test's own steps."""
    full = [{"handler": "noting", **step} for step in steps]
    definition = parsed_definition("tried", {"name": "tried", "steps": full})
    plan = checked_plan(definition, handlers=site.services.workflow_handlers, inputs={})
    return site.services.workflows.start_plan(plan, given, options=StartOptions(id=id)).workflow_id


def until_over(site: Site, id: str, *, seconds: float = 40) -> WorkflowView:
    """Wait until a workflow is over and recorded: it can be over before its last step is recorded."""
    wait_until(lambda: site.services.workflow_views.view(id).finished_at, seconds=seconds)
    wait_until(lambda: not any(site.services.recorder.unread().values()), seconds=seconds)
    return site.services.workflow_views.view(id)


def states(site: Site, id: str) -> dict[str, str]:
    """Step → state of its newest visit."""
    return {step.step: step.state for step in site.services.workflow_views.view(id).steps}


def effects(site: Site, id: str) -> list[str]:
    """The steps that recorded their effect, in order."""
    return [task.split(":")[1] for event, task, *_ in site.events() if event == "effect" and task.startswith(f"{id}:")]


def test_a_workflow_whose_worker_is_killed_completes_and_each_step_has_one_effect(site: Site) -> None:
    killed = site.worker("killed", queues="workflows", concurrency=2)
    gate = site.gate()
    id = start(
        site,
        "kill",
        {"name": "first"},
        {"name": "left", "after": ["first"]},
        {"name": "right", "after": ["first"], "with": {"gate": "gate"}},
        {"name": "joined", "after": ["left", "right"]},
        gate=str(gate),
    )
    wait_until(lambda: states(site, id)["left"] == "ok", seconds=20)
    site.until_event("began", f"{id}:right:1")

    killed.kill()
    gate.open()
    site.worker("heir", queues="workflows", concurrency=2)

    run = until_over(site, id)
    assert run.state is RunState.COMPLETED
    assert sorted(effects(site, id)[:3]) == ["first", "left", "right"] and effects(site, id)[3:] == ["joined"]
    assert run.output == {"joined": {"step": "joined", "before": ["first", "left", "right"]}}
    assert len([event for event in site.events(f"{id}:right:1") if event[0] == "began"]) == 2


def test_a_workflow_accepted_while_the_broker_is_down_completes_afterwards(site: Site) -> None:
    site.worker("patient", queues="workflows", concurrency=1)
    site.api()
    site.valkey.kill()

    accepted = site.post("/api/chat", CHAT)
    assert accepted["status"] == "accepted"
    assert site.get(f"/api/workflows/{accepted['workflow_id']}")["steps"][0]["state"] == "accepted"
    site.valkey.start()

    run = until_over(site, accepted["workflow_id"])
    assert run.state is RunState.COMPLETED and run.estimated_savings is not None
    assert run.estimated_savings.model_dump(mode="json") == {"weekly": 33.33, "monthly": 144.44, "yearly": 1733.33}
    assert [(step.step, step.attempts) for step in run.steps] == [
        ("validate", 1),
        ("calculate", 1),
        ("record_metrics", 1),
        ("summary", 1),
    ]


def test_a_step_over_its_timeout_is_stopped_retried_as_configured_and_fails(site: Site) -> None:
    site.worker("strict", queues="workflows", concurrency=1)

    id = start(
        site,
        "late",
        {"name": "slow", "timeout": 1, "max_retries": 1, "with": {"gate": "never"}},
        {"name": "after", "after": ["slow"]},
        {"name": "rescue", "after": ["slow"], "when": {"slow": "failed"}},
        never=str(site.gate()),
    )

    run = until_over(site, id)
    slow = next(step for step in run.steps if step.step == "slow")
    assert (slow.state, slow.error_type, slow.attempts) == ("failed", "TimeLimitExceeded", 2)
    assert slow.error == "The task ran longer than its limit of 1 s."
    assert states(site, id) == {"slow": "failed", "after": "skipped", "rescue": "ok"}
    assert run.state is RunState.COMPLETED, "the failure was handled"


def test_a_hundred_chat_requests_at_once_are_each_accepted_once_and_complete(site: Site, figure: Report) -> None:
    """An API on a busy machine asks some of them to come back. `make load` measures how many it accepts in a second."""
    site.api()

    began = monotonic()
    answers, held = asyncio.run(_crowd(site))
    took = monotonic() - began

    times = sorted(seconds for _, seconds in answers)
    figure(
        f"{CROWD} concurrent POST /api/chat",
        f"{took:.2f} s in all, mean {1000 * took / CROWD:.1f} ms a request; each waited "
        f"{1000 * fmean(times):.0f} ms in the mean, p95 {1000 * quantiles(times, n=20)[-1]:.0f} ms; "
        f"{held} asked to come back",
    )
    assert {answer.status_code for answer, _ in answers} <= {202, 200}
    assert len({answer.json()["workflow_id"] for answer, _ in answers}) == CROWD
    site.worker("busy", queues="workflows", concurrency=2)
    began = monotonic()
    for answer, _ in answers:
        assert until_over(site, answer.json()["workflow_id"], seconds=60).state is RunState.COMPLETED
    figure(f"{CROWD} workflows of 4 steps by two processes", f"{monotonic() - began:.1f} s")


async def _crowd(site: Site) -> tuple[list[tuple[httpx.Response, float]], int]:
    """Send all requests at once; return each one's answer with its seconds, and how many answers asked to come back."""
    limits, held = httpx.Limits(max_connections=CROWD), 0
    async with httpx.AsyncClient(base_url=str(site.http.base_url), timeout=30, limits=limits, trust_env=False) as http:

        async def ask(number: int) -> tuple[httpx.Response, float]:
            nonlocal held
            began = monotonic()
            answer = await http.post("/api/chat", json=CHAT | {"id": f"chat-{number}"})
            while answer.status_code == 503 and monotonic() < began + 60:
                held += 1
                await asyncio.sleep(float(answer.headers["Retry-After"]))
                answer = await http.post("/api/chat", json=CHAT | {"id": f"chat-{number}"})
            return answer, monotonic() - began

        return list(await asyncio.gather(*(ask(number) for number in range(CROWD)))), held
