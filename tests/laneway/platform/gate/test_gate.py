"""The gate on a real database and broker: what waits was submitted by older code than that which looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import create_model
from sqlalchemy import func, select

from app.services.container import Services
from laneway.engine import Message
from laneway.platform import clock
from laneway.platform.db.models import StoredSchedule, TaskEvent, TaskRun
from laneway.platform.db.session import Database
from laneway.platform.gate.findings import Finding, GateReport, Kind
from laneway.platform.gate.gate import Gate
from laneway.platform.queues import queues
from laneway.platform.registry import TaskSpec, registry
from laneway.platform.schedules.firing import OPERATOR
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.workflows.definitions import checked_plan, parsed_definition
from laneway.platform.workflows.handlers import Handler
from laneway.platform.workflows.runs import StartOptions
from laneway.schemas.payload import Payload
from laneway.schemas.task import TaskState
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.platform import Platform
from tests.fixtures.registry import register_spec

RESIZE, QUEUE, SECRET = "gate_resize", "crm", "ann@example.org"

Declare = Callable[..., TaskSpec]


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Declare:
    """Declare the task with these fields, as one version of the code; another call replaces it."""

    def one(queue: str = QUEUE, **fields: Any) -> TaskSpec:
        payload: type[Payload] = create_model("Resize", __base__=Payload, **fields)
        spec = TaskSpec(name=RESIZE, own_queue=queue, payload=payload)
        register_spec(monkeypatch, spec)
        return spec

    return one


@pytest.fixture
def look(services: Services, platform: Platform) -> Callable[[], GateReport]:
    """Look with the code that this process has now."""
    return lambda: Gate(services, platform.app).look()


def found(report: GateReport, kind: Kind) -> Finding:
    """The one finding of a kind."""
    (finding,) = [each for each in report.findings if each.kind is kind]
    return finding


def test_a_payload_that_the_new_code_does_not_take_is_counted_by_state(
    declare: Declare, look: Callable[[], GateReport], platform: Platform
) -> None:
    old = declare(owner=(str, ...), width=(int, ...))
    for number in range(4):
        platform.tasks.submit(old, {"owner": SECRET, "width": number})
    platform.tasks.submit(old, {"owner": SECRET, "width": 9}, options=SubmitOptions(delay=3600))
    dead = platform.tasks.submit(old, {"owner": SECRET, "width": 9}).task_id
    with platform.database.transaction() as session:
        run = session.scalars(select(TaskRun).where(TaskRun.id == dead)).one()
        run.state, run.finished_at = TaskState.DEAD_LETTER, clock.now()
    declare(owner=(str, ...), size=(int, ...))

    report = look()

    finding = found(report, Kind.PAYLOAD)
    assert finding.text == "The payload does not fit: size: Field required; the field 'width' is not known."
    assert finding.states == {"pending": 4, "scheduled": 1, "dead_letter": 1}
    assert [example.payload for example in finding.examples] == ["owner: text, width: whole number"] * 3
    assert report.failing == 6
    assert SECRET not in str(report)


def test_what_fits_is_no_finding_and_nothing_is_changed(
    declare: Declare, look: Callable[[], GateReport], platform: Platform
) -> None:
    spec = declare(width=(int, ...))
    for number in range(3):
        platform.tasks.submit(spec, {"width": number})
    declare(width=(int, ...), height=(int | None, None))
    before = _state_of(platform)

    report = look()

    assert (report.findings, report.unchecked, report.checked["tasks"]) == ([], {}, 3)
    assert _state_of(platform) == before


def _state_of(platform: Platform) -> tuple[int, int, Any]:
    with platform.database.reading() as session:
        rows, events = (session.scalar(select(func.count()).select_from(each)) for each in (TaskRun, TaskEvent))
    stats = platform.engine.stats([QUEUE])[0]
    return rows or 0, events or 0, (stats.ready, stats.counters, platform.engine.unread([QUEUE]))


@ONE_DATABASE
def test_a_task_or_a_queue_that_is_gone_is_told(
    declare: Declare, look: Callable[[], GateReport], platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = declare(width=(int, ...))
    platform.tasks.submit(spec, {"width": 1})
    platform.tasks.submit(spec, {"width": 2}, options=SubmitOptions(queue="documents"))
    monkeypatch.delitem(registry._entries, RESIZE)  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(queues, "_lanes", {name: lane for name, lane in queues.items() if name != "documents"})

    report = look()

    assert found(report, Kind.UNKNOWN_TASK).text == f"This code has no task {RESIZE!r}."
    assert found(report, Kind.UNKNOWN_QUEUE).subject == "documents"
    assert report.failing == 2


@ONE_DATABASE
def test_a_task_of_plain_celery_and_an_alias_are_known(
    look: Callable[[], GateReport], platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = TaskSpec(name="gate_new_name", own_queue=QUEUE, payload=Payload, aliases=("gate_old_name",))
    register_spec(monkeypatch, spec)
    monkeypatch.setitem(registry._aliases, "gate_old_name", "gate_new_name")  # pyright: ignore[reportPrivateUsage]
    for name in ("gate_old_name", "celery.backend_cleanup"):
        platform.engine.put(QUEUE, Message(id=name, task_id=name, name=name, body=b"[[], {}, {}]"))

    report = look()

    assert (report.findings, report.checked["tasks"]) == ([], 2)


@ONE_DATABASE
def test_messages_without_a_row_are_tried_and_those_of_other_applications_are_left_out(
    declare: Declare, look: Callable[[], GateReport], platform: Platform
) -> None:
    declare(width=(int, ...))
    for queue, name in ((QUEUE, RESIZE), ("renamed", RESIZE), ("shop", "shop.pack")):
        platform.engine.put(queue, Message(id=queue, task_id=queue, name=name, body=b'[[], {"depth": 1}, {}]'))

    report = look()

    assert found(report, Kind.PAYLOAD).states == {"pending": 1}
    assert found(report, Kind.UNKNOWN_QUEUE).subject == "renamed"
    assert any("1 messages in the queue 'shop' were left out" in note for note in report.notes)


@ONE_DATABASE
def test_the_steps_that_are_left_of_a_run_need_their_handlers(
    services: Services, look: Callable[[], GateReport], platform: Platform
) -> None:
    handler = Handler("gate-handle", lambda _call: {})
    steps = [{"name": "one", "handler": handler.name}, {"name": "two", "handler": handler.name, "after": ["one"]}]
    definition = parsed_definition("gated", {"name": "gated", "steps": steps})
    plan = checked_plan(definition, handlers={handler.name: handler}, inputs={})
    services.workflows.start_plan(plan, {}, options=StartOptions())

    texts = [each.text.split(";")[0] for each in look().findings]
    assert texts == [f"step {name!r}: there is no handler 'gate-handle'" for name in ("one", "two")]
    services.workflow_handlers[handler.name] = handler
    report = look()
    assert report.findings == []
    assert any("this code has no such workflow" in note for note in report.notes)
    assert platform.engine.stats(["workflows"])[0].ready == 1


@ONE_DATABASE
def test_schedules_of_operators_are_tried(
    declare: Declare, look: Callable[[], GateReport], platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(width=(int, ...))
    rows = {
        "fits": {"task": RESIZE, "payload": {"width": 1}, "every": 60},
        "gone": {"task": "gate_gone", "every": 60},
        "misfit": {"task": RESIZE, "payload": {"depth": 1}, "every": 60},
    }
    with platform.database.transaction() as session:
        for key, definition in rows.items():
            now = clock.now()
            values = {"source": OPERATOR, "definition": definition, "decided_until": now, "changed_at": now}
            session.add(StoredSchedule(key=key, **values))
    monkeypatch.setitem(platform.app.conf.beat_schedule, "of-code", {"task": "gate_gone", "schedule": 60.0})

    report = look()

    assert {each.subject for each in report.findings if each.kind is Kind.SCHEDULE} == {"gone", "misfit", "of-code"}


@ONE_DATABASE
def test_a_database_without_tables_has_nothing_to_try(services: Services, platform: Platform, tmp_path: Any) -> None:
    services.database = Database(f"sqlite:///{tmp_path}/empty.db")

    report = Gate(services, platform.app).look()

    assert (report.findings, report.checked) == ([], {})
    assert any("nothing waits" in note for note in report.notes)
    assert any("`laneway prepare` migrates them" in note for note in report.notes)
    services.database.close()


@ONE_DATABASE
def test_too_many_different_findings_are_only_counted(
    declare: Declare, look: Callable[[], GateReport], platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("laneway.platform.gate.findings.MOST_FINDINGS", 2)
    declare(width=(int, ...))
    for number in range(5):
        name = f"gate_gone_{number}"
        platform.engine.put(QUEUE, Message(id=name, task_id=name, name=name, body=b"[[], {}, {}]"))

    report = look()

    assert (len(report.findings), report.not_listed, report.failing) == (2, 3, 5)
