"""Limits that tasks share: declared, stored, enforced by the engine, shown to waiting tasks, removed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from app.services.container import Services
from laneway import Limit
from laneway.engine import LimitUse
from laneway.platform import clock
from laneway.platform.access.caller import Caller, acting_as
from laneway.platform.access.scopes import Scope
from laneway.platform.db.queries import task_runs
from laneway.platform.db.queries.audit_log import AuditLogFilter
from laneway.platform.errors import InvalidPayload, Unsendable, Unsupported
from laneway.platform.execution.outcomes import Completed
from laneway.platform.flow.named_limits import NoSuchLimit, declared_limits
from laneway.platform.flow.task_flow import BadLimit, FlowOptions, TaskFlow, flow_of, stored_flow
from laneway.platform.registry import registry
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.task_messages import check_sendable
from laneway.schemas.limit import LimitSource, NamedLimitRequest
from laneway.schemas.waiting import CauseKind
from tests.fixtures.databases import Database
from tests.fixtures.platform import Environment, Platform, celery_on, make_platform, settings_for
from tests.fixtures.registry import register_spec
from tests.fixtures.valkey import RedisUrls, RunningValkey

TASK, QUEUE = "send_webhook_response_task", "webhooks"
PAYLOAD = {"url": "https://example.com/hook", "event": "replied", "data": {}}
Declare = Callable[..., None]


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Declare:
    """Give the task another flow until the test ends."""

    def give(**flow: object) -> None:
        register_spec(monkeypatch, replace(registry[TASK], flow=TaskFlow(**flow)))  # type: ignore[arg-type]

    return give


@pytest.fixture
def platform(services: Services, valkey: RunningValkey) -> Platform:
    """A second platform on the same servers, which plays the workers."""
    made = make_platform(services.settings, services.broker._app, services.database, valkey=valkey)  # pyright: ignore
    services.broker.prepare()
    made.alive()
    return made


def submit(services: Services, **options: object) -> str:
    return services.tasks.submit(TASK, PAYLOAD, **options).task_id  # type: ignore[arg-type]


def test_a_declared_limit_holds_and_the_task_says_what_it_waits_for(
    services: Services, platform: Platform, declare: Declare
) -> None:
    declare(limits=(Limit("hooks", key="url", max_running=1),))
    services.broker.prepare()
    first, second = submit(services), submit(services)

    held = platform.fetch(QUEUE)
    assert held is not None and held.id == first
    assert platform.fetch(QUEUE) is None
    cause = services.tasks.why(second).causes[0]
    assert (cause.kind, cause.text) == (
        CauseKind.LIMIT,
        "the limit 'hooks', counted for 'https://example.com/hook': it is used up",
    )
    (view,) = services.named_limits.listing()
    assert (view.name, view.source, view.tasks, view.running, view.waiting, view.in_force) == (
        "hooks",
        LimitSource.CODE,
        [TASK],
        1,
        1,
        True,
    )
    platform.engine.ack([held])
    assert platform.fetch(QUEUE) is not None


def test_an_operator_sets_a_limit_and_takes_it_back(services: Services, platform: Platform, declare: Declare) -> None:
    declare(limits=(Limit("hooks", max_running=1),))
    services.broker.prepare()
    set_ = services.named_limits.put("hooks", NamedLimitRequest(rate=60, per_seconds=60, burst=2))
    assert (set_.rate, set_.max_running, set_.source, set_.in_force) == (60, None, LimitSource.OPERATOR, True)
    submit(services), submit(services), submit(services)
    assert [platform.fetch(QUEUE) is not None for _ in range(3)] == [True, True, False]

    back = services.named_limits.remove("hooks")
    assert (back.rate, back.max_running, back.source, back.in_force) == (None, 1, LimitSource.CODE, True)
    actions = [entry.action for entry in services.audit_log.page(AuditLogFilter()).entries]
    assert actions[:2] == ["limit.remove", "limit.set"]


def test_all_runs_of_a_task_are_limited_also_those_that_wait_already(services: Services, platform: Platform) -> None:
    submit(services), submit(services)
    services.named_limits.put(f"task:{TASK}", NamedLimitRequest(max_running=1))
    held = platform.fetch(QUEUE)
    assert held is not None
    assert platform.fetch(QUEUE) is None

    assert services.named_limits.remove(f"task:{TASK}").in_force is True
    assert platform.fetch(QUEUE) is not None
    assert "task_limits" not in platform.engine.stats([QUEUE])[0].limits


def test_a_broker_that_lost_its_data_gets_the_limits_again(
    services: Services, declare: Declare, platform: Platform
) -> None:
    declare(limits=(Limit("hooks", max_running=1),))
    services.named_limits.put("hooks", NamedLimitRequest(max_running=3))
    platform.engine.runner.call("FLUSHDB")
    assert services.named_limits.of("hooks").in_force is False
    services.broker.prepare()
    assert services.named_limits.of("hooks").in_force is True


def test_limits_set_while_the_broker_is_away_apply_when_it_is_back(
    services: Services, declare: Declare, platform: Platform
) -> None:
    declare(limits=(Limit("hooks"),))
    platform.valkey.stop()
    assert services.named_limits.put("hooks", NamedLimitRequest(max_running=3)).in_force is None
    platform.valkey.start()
    services.broker.prepare()
    assert services.named_limits.of("hooks").in_force is True


def test_a_limit_that_no_task_uses_is_refused(services: Services) -> None:
    with pytest.raises(NoSuchLimit, match="No task uses a limit 'nonsense'"):
        services.named_limits.put("nonsense", NamedLimitRequest(max_running=1))
    with pytest.raises(NoSuchLimit):
        services.named_limits.put("task:nonsense", NamedLimitRequest(max_running=1))
    assert services.named_limits.listing() == []


def test_two_tasks_that_declare_different_values_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in ((TASK, Limit("api", rate=1)), ("cleanup_old_data_task", Limit("api", rate=2))):
        register_spec(monkeypatch, replace(registry[name], flow=TaskFlow(limits=(limit,))))
    with pytest.raises(BadLimit, match="The limit 'api' cannot be declared: tasks declare different values"):
        declared_limits()


def test_a_task_that_reaches_a_limit_closes_it_for_all(
    services: Services, platform: Platform, declare: Declare
) -> None:
    declare(limits=(Limit("hooks"),))
    services.block_limit("hooks", 60, key="")
    submit(services)
    assert platform.fetch(QUEUE) is None
    view = services.named_limits.of("hooks")
    assert view.blocked_until is not None and 50 < (view.blocked_until - clock.now()).total_seconds() <= 60


def test_a_task_waits_for_a_worker_with_its_labels(services: Services, platform: Platform, declare: Declare) -> None:
    declare(needs=("gpu",))
    id = submit(services)
    assert platform.fetch(QUEUE) is None
    cause = services.tasks.why(id).causes[0]
    assert (cause.kind, cause.text) == (CauseKind.LABELS, "a worker with the labels gpu")


def test_the_options_of_a_submission_go_before_the_declaration(services: Services, declare: Declare) -> None:
    declare(tenant="event", limits=(Limit("hooks"),))
    flow = stored_flow(services.tasks.current(submit(services)).options)
    assert flow is not None and (flow.tenant, flow.weight, flow.limits) == ("replied", 1, (LimitUse("hooks"),))
    given = FlowOptions(tenant="acme", weight=5)
    flow = stored_flow(services.tasks.current(submit(services, options=SubmitOptions(flow=given))).options)
    assert flow is not None and (flow.tenant, flow.weight) == ("acme", 5)


def test_a_deadline_counts_from_the_due_time(services: Services, declare: Declare) -> None:
    declare(deadline=30.0)
    now = clock.now()
    flow = stored_flow(services.tasks.current(submit(services, delay=60)).options)
    assert flow is not None and flow.deadline_ms is not None
    assert 89 < flow.deadline_ms / 1000 - now.timestamp() < 95


def test_a_long_key_is_counted_by_its_digest_and_none_as_no_key() -> None:
    declared = TaskFlow(limits=(Limit("hooks", key="url"),))
    payload = registry[TASK].payload.model_validate(PAYLOAD)
    long = payload.model_copy(update={"url": "https://example.com/" + "é" * 200})
    for value, length in ((long, 64), (payload.model_copy(update={"url": None}), 0)):
        flow = flow_of(declared, value, FlowOptions(), now=clock.now())
        assert flow is not None and len(flow["l"][0][1]) == length


def test_a_row_with_fields_that_cannot_be_read_is_set_aside_and_not_sent(services: Services) -> None:
    run = services.tasks.current(submit(services))
    run.options = {"flow": {"l": [["", "", 1]]}}
    with pytest.raises(Unsendable, match="must have a name"):
        check_sendable(run)


def test_a_weight_that_cannot_work_is_refused_and_stores_nothing(services: Services, declare: Declare) -> None:
    declare(tenant="event")
    with pytest.raises(InvalidPayload, match="weight must be 1 to 100"):
        submit(services, options=SubmitOptions(flow=FlowOptions(weight=0)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "a", "points": 0},
        {"name": "a", "rate": 0},
        {"name": "a", "burst": 0},
        {"name": "a", "max_running": 0},
        {"name": "task:a"},
    ],
)
def test_a_limit_that_cannot_work_is_refused_where_it_is_declared(wrong: dict[str, object]) -> None:
    with pytest.raises(BadLimit):
        Limit(**wrong)  # type: ignore[arg-type]


def test_without_the_engine_a_task_with_limits_is_refused(
    environment: Environment, sqlite_database: Database, redis_urls: RedisUrls, tmp_path: Path, declare: Declare
) -> None:
    settings = settings_for(environment, sqlite_database, redis_urls, folder=tmp_path, BROKER_TRANSPORT="celery")
    with celery_on(settings) as app:
        services = Services(settings, app)
        services.database = sqlite_database
        declare(limits=(Limit("hooks"),))
        with pytest.raises(Unsupported, match="does not support limits, labels, tenants and deadlines of tasks"):
            submit(services)
        with pytest.raises(Unsupported, match="does not support limits of tasks"):
            services.named_limits.put("hooks", NamedLimitRequest(rate=1))


def test_a_task_is_told_when_the_rate_of_its_limit_lets_it_through(
    services: Services, platform: Platform, declare: Declare
) -> None:
    declare(limits=(Limit("hooks", rate=1, per=60),))
    services.broker.prepare()
    ids = [submit(services) for _ in range(3)]
    assert [platform.fetch(QUEUE) is not None for _ in range(2)] == [True, False]
    why = services.tasks.why(ids[2])
    cause = why.causes[0]

    assert cause.detail == "It lets one point in 60 s through; about 1 task goes before it"
    assert cause.until is not None and 110 < (cause.until - clock.now()).total_seconds() <= 120
    assert cause.text == services.tasks.status(ids[2]).waiting_for
    assert why.forecast is None or why.forecast.starts_p50 >= cause.until
    assert services.named_limits.of("hooks").opens_at is not None
    services.block_limit("hooks", 3600, key="")
    cause = services.tasks.why(ids[2]).causes[0]
    assert cause.detail is not None and cause.detail.startswith("A service has asked to wait: ")
    assert cause.until is not None and 3590 < (cause.until - clock.now()).total_seconds() <= 3661


def test_a_task_is_told_who_has_its_limit_and_how_long_they_probably_run(
    services: Services, platform: Platform, declare: Declare
) -> None:
    declare(limits=(Limit("hooks", max_running=1), Limit("other", max_running=1)))
    services.broker.prepare()
    ids = [submit(services) for _ in range(3)]
    attempt = platform.start(QUEUE, worker="w7")
    assert platform.fetch(QUEUE) is None
    first, second = services.tasks.why(ids[2]).causes[:2]

    assert (first.until, first.expected) == (None, None), "nobody knows how long such a task runs"
    assert first.detail == "Running tasks have 1 of its 1 points; about 1 task goes before it"
    (holder,) = first.holders
    assert (holder.task_id, holder.name, holder.queue, holder.worker) == (ids[0], TASK, QUEUE, "w7")
    assert holder.since is not None and 0 < (holder.lease_until - clock.now()).total_seconds() < 60
    assert second.text == "the limit 'other': it is used up"

    platform.end(attempt, Completed({}))
    platform.recorder.catch_up()
    with services.database.transaction() as session:  # it ran for 100 s
        run = task_runs.get(session, ids[0])
        run.started_at = clock.now() - timedelta(seconds=100)
    platform.start(QUEUE)
    cause = services.tasks.why(ids[2]).causes[0]
    assert cause.expected is not None and 95 < (cause.expected - clock.now()).total_seconds() <= 101
    bound = Caller(kind="token", name="t", scopes=frozenset({Scope.READ}), queues=frozenset({QUEUE}))
    with acting_as(bound):
        assert services.tasks.why(ids[2]).causes[0].holders == [], "they may be of others"
