"""What the machine draws: messages, limits, times."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from laneway.engine import AckAction, Flow, Limits, LimitUse, Message, NamedLimit, Unique, UniqueMode

START_MS = 1_790_000_000_000
IDS = ("0b8a1c1e-6f4e-4b0e-9f8e-2c5d2f2b7a11", "sixteen-letters!", "t3", "t4")
# The domains are small, so that calls meet on the same messages.
ONE = LimitUse("l1")
queues = st.sampled_from(("a", "a", "a", "b"))
tasks = st.sampled_from((IDS[0], IDS[0], IDS[0], *IDS[1:]))
uniques = st.builds(
    Unique,
    key=st.sampled_from(("u1", "u1", "u2")),
    mode=st.sampled_from(UniqueMode),
    ttl_ms=st.sampled_from((0, 700, 3_000)),
).map(lambda unique: replace(unique, ttl_ms=unique.ttl_ms or 700) if unique.mode is UniqueMode.FOR_TIME else unique)
flows = st.builds(
    Flow,
    limits=st.sampled_from(((), (ONE,), (LimitUse("l1", "x", 2),), (LimitUse("l2"), ONE))),
    labels=st.sampled_from(((), (), ("gpu",))),
    tenant=st.sampled_from((None, "acme", "blue")),
    weight=st.sampled_from((1, 1, 3)),
    deadline_ms=st.sampled_from((None, None, START_MS + 3_600_500, START_MS + 90_000_000)),
).map(lambda flow: replace(flow, deadline_ms=None) if flow.tenant else replace(flow, weight=1))
messages = st.builds(
    Message,
    task_id=st.one_of(tasks, tasks, tasks, st.uuids().map(str)),
    name=st.sampled_from(("", "app.work")),
    body=st.binary(max_size=4),
    id=st.sampled_from((None, None, None, "m1", "m2")),
    priority=st.sampled_from((0, 0, 4, 9)),
    key=st.sampled_from((None, "k1", "k1", "k2")),
    unique=st.one_of(st.none(), uniques),
    max_deliveries=st.none() | st.sampled_from((1, 2)),
    body_known=st.booleans(),
    flow=st.one_of(st.none(), st.none(), flows),
)
waiting_messages = st.builds(
    Message,
    task_id=st.uuids().map(str),
    key=st.sampled_from((None, None, "k1")),
    flow=st.sampled_from((None, Flow(limits=(ONE,)), Flow(limits=(ONE,)), Flow(labels=("gpu",)))),
)
plain_messages = st.builds(
    Message,
    task_id=st.uuids().map(str),
    body=st.sampled_from((b"", b"body")),
    priority=st.sampled_from((0, 0, 4, 9)),
    body_known=st.booleans(),
)
delays = st.sampled_from((None, None, None, -500, 0, 400, 1_500))
versions = st.sampled_from((None, 1, 1_800_000_000_000_001, 1_800_000_000_000_002))
journal_sizes = st.sampled_from((None, 0, 8, 40, 40, 40))
ack_actions = st.sampled_from(AckAction)
limits = st.builds(
    Limits,
    max_size=st.sampled_from((None, None, 6)),
    max_in_flight=st.sampled_from((None, None, 3)),
    rate=st.sampled_from((None, None, None, 0.7, 3.0)),
    burst=st.sampled_from((1, 2)),
    max_deliveries=st.none() | st.just(2),
    dead_max=st.none() | st.just(2),
    dead_age_ms=st.none() | st.just(2_000),
    expires_ms=st.none() | st.just(3_600_000),
    max_wait_ms=st.sampled_from((None, None, None, 1_000)),
)
named_limits = st.builds(
    NamedLimit,
    rate=st.sampled_from((None, 0.7, 3.0)),
    burst=st.sampled_from((1, 2)),
    max_running=st.sampled_from((None, 1, 2)),
)
