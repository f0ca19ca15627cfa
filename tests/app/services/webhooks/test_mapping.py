"""The mapping: its errors name line and key, its rules decide, its templates become payloads."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.core.settings.webhooks import SHIPPED_MAPPING
from app.schemas.webhook import ParsedEvent
from app.schemas.webhook_event import EventState
from app.services.webhooks.deciding import Decision, decide
from app.services.webhooks.mapping.current import CurrentMapping, MappingInForce
from app.services.webhooks.mapping.errors import InvalidMapping, Misfit
from app.services.webhooks.mapping.loading import load_mapping
from app.services.webhooks.mapping.paths import filled
from app.services.webhooks.parsing import parse
from laneway.platform.db.session import Database
from laneway.schemas.payload import Payload

MESSAGE_RULE = """
rules:
  - name: orders
    source: shop
    event: order.*
    when:
      body.total: {min: 10}
    task: process_conversation_message_task
    payload:
      conversation_id: shop:${body.customer.id}
      message: Order ${body.order}
"""


def decided(text: str, body: dict[str, Any], *, source: str = "shop") -> Decision:
    (event,) = parse(source, body).events
    return decide(MappingInForce("m.yaml", load_mapping(text, file="m.yaml")), source, event)


def order(**more: Any) -> dict[str, Any]:
    return {"id": "e1", "type": "order.paid", "total": 12, "order": "A-1", "customer": {"id": "7"}} | more


def payload(decision: Decision) -> dict[str, Any]:
    assert isinstance(decision.payload, Payload)
    return decision.payload.model_dump(exclude_none=True)


def test_an_event_leads_to_the_task_of_its_rule_with_the_filled_payload() -> None:
    decision = decided(MESSAGE_RULE, order())

    assert (decision.state, decision.rule, decision.task) == (
        EventState.HANDLED,
        "orders",
        "process_conversation_message_task",
    )
    assert payload(decision) == {"conversation_id": "shop:7", "message": "Order A-1", "channel": "api"}


@pytest.mark.parametrize(
    "body", [order(type="refund"), order(total=9.99), order(total=None), order(type="Order.paid"), {"id": "e1"}]
)
def test_an_event_that_no_rule_is_for_is_unhandled(body: dict[str, Any]) -> None:
    assert decided(MESSAGE_RULE, body) == Decision(EventState.UNHANDLED)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (order(total="much"), "body.total is not a number"),
        (order(total=True), "body.total is not a number"),
        (order(order=None), "the event has no body.order"),
        (order(order={"a": 1}), "body.order is not a text or a number"),
        (order(customer=[]), "the event has no body.customer.id"),
        (order(customer="Ada"), "Fields that could not be read: customer: "),
        (order(customer={"id": "ü" * 200}), "conversation_id"),
        (order(order="x" * 9000), "message: String should have at most 8000 characters"),
    ],
)
def test_an_event_that_does_not_fit_its_rule_goes_to_quarantine_with_the_reason(
    body: dict[str, Any], reason: str
) -> None:
    decision = decided(MESSAGE_RULE, body)

    assert (decision.state, decision.rule, decision.task) == (EventState.QUARANTINED, "orders", None)
    assert reason in (decision.reason or "")


def test_a_number_in_text_is_compared_as_a_number() -> None:
    assert decided(MESSAGE_RULE, order(total=" 10.50 ")).state is EventState.HANDLED


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ("body.a: x", True),
        ("body.a: [w, x]", True),
        ("body.a: y", False),
        ("body.missing: x", False),
        ("body.a: {none_of: [x]}", False),
        ("body.missing: {none_of: [x]}", True),
        ("body.a: {exists: true}", True),
        ("body.missing: {exists: true}", False),
        ("body.missing: {exists: false}", True),
        ("body.nothing: {exists: false}", True),
        ("body.a: {like: 'x*'}", True),
        ("body.a: {like: [y, 'z*']}", False),
        ("body.lines.1.sku: b", True),
        ("body.lines.2.sku: b", False),
        ("body.n: {min: 5, max: 5}", True),
        ("body.n: {max: 4.9}", False),
        ("body.flag: true", True),
        ("event.kind: other", True),
        ("event.is_test: false", True),
    ],
)
def test_a_filter_compares_fields(when: str, holds: bool) -> None:
    text = f"rules: [{{name: r, when: {{{when}}}, task: cleanup_old_data_task, payload: {{}}}}]"
    body = {
        "id": "1",
        "type": "t",
        "a": "x",
        "n": 5,
        "flag": True,
        "nothing": None,
        "lines": [{"sku": "a"}, {"sku": "b"}],
    }

    assert (decided(text, body).state is EventState.HANDLED) is holds


def test_the_first_rule_that_is_for_an_event_decides() -> None:
    rules = "".join(
        f"  - {{name: {name}, event: {event}, task: cleanup_old_data_task, payload: {{}}}}\n"
        for name, event in (("a", "x"), ("b", "'o*'"), ("c", "'*'"))
    )

    assert decided("rules:\n" + rules, order()).rule == "b"


def test_a_template_keeps_the_type_of_a_value_and_leaves_out_what_may_be_missing() -> None:
    scope = {"body": {"n": 5, "list": [{"a": 1}], "no": None}, "event": {"id": "e"}, "interaction": None}
    template = {
        "n": "${body.n}",
        "l": "${body.list}",
        "t": "n=${body.n} ${body.no?}.",
        "no": "${body.no?}",
        "deep": ["${body.x?}", "$${body.n}", 7],
    }

    assert filled(template, scope) == {"n": 5, "l": [{"a": 1}], "t": "n=5 .", "deep": ["${body.n}", 7]}
    with pytest.raises(Misfit, match="no interaction"):
        filled("${interaction}", scope)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ["line 1", "rules"]),
        ("rules: [", ["line 1", "it is not YAML"]),
        ("rules:\n\t- a", ["line 2", "it is not YAML"]),
        ("- a", ["line 1", "rules"]),
        ("rulez: []", ["line 1, rulez", "line 1, rules: Field required"]),
        ("rules: []\nrules: []", ["line 2, rules: the key is written twice"]),
        ("rules:\n  - name: Ä\n    task: t\n    payload: {}", ["line 2, rules.0.name"]),
        ("rules:\n  - name: a\n    payload: {}", ["line 2, rules.0.task: Field required"]),
        (
            MESSAGE_RULE.replace("process_conversation_message_task", "process_conversation_mesage_task"),
            ["line 8, rules.0.task: no task is registered as", "process_conversation_message_task"],
        ),
        (
            MESSAGE_RULE.replace("      message:", "      text:"),
            ["line 11, rules.0.payload.text", "it has conversation_id", "line 9, rules.0.payload: the field 'message'"],
        ),
        (MESSAGE_RULE.replace("body.total:", "bodytotal:"), ["line 7, rules.0.when.bodytotal", "is not a path"]),
        (MESSAGE_RULE.replace("min: 10", "least: 10"), ["line 7, rules.0.when.body.total.least"]),
        (MESSAGE_RULE.replace("${body.order}", "${order}"), ["line 9, rules.0.payload: ${order}", "is not a path"]),
        (MESSAGE_RULE.replace("${body.order}", "${event.order}"), ["the fields of event are id, source, name"]),
        (
            MESSAGE_RULE.replace("shop:${body.customer.id}", "a b"),
            ["line 10, rules.0.payload.conversation_id: String should match"],
        ),
        (MESSAGE_RULE + MESSAGE_RULE.removeprefix("\nrules:\n"), ["rules.1.name: there are two rules named 'orders'"]),
        (
            "rules:\n  - {name: a, task: cleanup_old_data_task, payload: text}",
            ["write the fields of the task's payload"],
        ),
        ("a: &a [*a]", ["line 1"]),
        ("rules: " + "[" * 2000 + "]" * 2000, ["line 1"]),
        ("rules: {? [a, b] : c}", ["line 1"]),
        ("rules: []\nx: !!python/object/apply:os.getcwd []", ["it is not YAML"]),
    ],
)
def test_an_error_names_the_file_the_line_and_the_key(text: str, told: list[str]) -> None:
    with pytest.raises(InvalidMapping) as refused:
        load_mapping(text, file="/etc/mapping.yaml")

    message = str(refused.value)
    assert message.startswith("The webhook mapping /etc/mapping.yaml is not valid:\n  - line ")
    for part in told:
        assert part in message


def test_many_problems_are_bounded() -> None:
    text = "rules:\n" + "".join(f"  - {{name: r{number}, task: nope, payload: {{}}}}\n" for number in range(50))
    with pytest.raises(InvalidMapping) as refused:
        load_mapping(text, file="m")

    assert refused.value.problems[-1] == "and 30 more problems"


# What ships

SHIPPED = SHIPPED_MAPPING.read_text()


@pytest.mark.parametrize(
    ("source", "body", "rule"),
    [
        ("shop", {"type": "order.paid", "order": 1}, "order-paid"),
        ("shop", {"event": "order.paid", "text": "paid"}, "order-paid"),
        ("shop", {"type": "message", "text": "hi"}, "interaction"),
        ("shop", {"type": "lead", "customer": {"email": "a@b.example"}}, "interaction"),
        ("shop", {"type": "ticket.closed", "message": {"text": "done"}}, "text"),
        ("google", {"lead_id": "L"}, "google-lead"),
    ],
)
def test_the_shipped_mapping_knows_these_events(source: str, body: dict[str, Any], rule: str) -> None:
    decision = decided(SHIPPED, body, source=source)

    assert (decision.state, decision.rule) == (EventState.HANDLED, rule)
    assert payload(decision)["kind"]


@pytest.mark.parametrize("body", [{"type": "stock.low", "item": 7}, {}, {"type": "order.shipped"}])
def test_the_shipped_mapping_leaves_others_unhandled(body: dict[str, Any]) -> None:
    assert decided(SHIPPED, body).state is EventState.UNHANDLED


def test_a_paid_order_is_confirmed_in_its_customers_conversation() -> None:
    found = payload(decided(SHIPPED, order()))

    assert found["conversation_id"] == "shop:customer:7"
    assert found["reply"] == "Thank you! We have received your payment."
    assert "message" not in found


# The mapping in force


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mapping.yaml"
    path.write_text(MESSAGE_RULE)
    return path


def test_a_changed_file_is_in_force_at_once(file: Path, sqlite_database: Database) -> None:
    current = CurrentMapping(sqlite_database, file)
    before = current.get()
    assert current.get() is before

    file.write_text(MESSAGE_RULE.replace("name: orders", "name: changed"))

    mapping = current.get().mapping
    assert mapping and mapping.rules[0].name == "changed"


@pytest.mark.parametrize("broken", ["rules: [", None, b"\xff\xfe\x00"])
def test_a_broken_file_leaves_the_last_valid_mapping_in_force_also_after_a_restart(
    file: Path, sqlite_database: Database, broken: str | bytes | None
) -> None:
    current = CurrentMapping(sqlite_database, file)
    assert current.get().problem is None

    if broken is None:
        file.unlink()
    else:
        file.write_bytes(broken.encode() if isinstance(broken, str) else broken)

    for process in (current, CurrentMapping(sqlite_database, file)):
        found = process.get()
        assert str(file) in (found.problem or "")
        assert found.mapping and found.mapping.rules[0].name == "orders"

    file.write_text(MESSAGE_RULE.replace("name: orders", "name: mended"))
    mended = current.get()
    assert mended.problem is None
    assert mended.mapping and mended.mapping.rules[0].name == "mended"


def test_without_any_valid_mapping_events_go_to_quarantine_and_the_reason_names_the_line(
    file: Path, sqlite_database: Database
) -> None:
    file.write_text("rules:\n  - name: a\n    payload: {}\n")
    current = CurrentMapping(sqlite_database, file).get()
    decision = decide(current, "shop", ParsedEvent(event_id="e", name="order.paid"))

    assert current.mapping is None
    assert decision.state is EventState.QUARANTINED
    assert "line 2, rules.0.task" in (decision.reason or "")


def test_a_database_that_cannot_keep_the_mapping_does_not_stop_it(file: Path, tmp_path: Path) -> None:
    with closing(Database(f"sqlite:///{tmp_path / 'without-tables.db'}")) as database:
        found = CurrentMapping(database, file).get()

    assert found.problem is None
    assert found.mapping and found.mapping.rules[0].name == "orders"


def test_a_byte_order_mark_is_no_problem(file: Path, sqlite_database: Database) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + MESSAGE_RULE.encode())

    assert CurrentMapping(sqlite_database, file).get().problem is None
