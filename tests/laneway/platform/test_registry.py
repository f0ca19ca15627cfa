"""A declaration that cannot work is refused with one sentence; a complete registry is found by name and by purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from laneway.platform import registry as module
from laneway.platform.errors import ConfigError, UnknownTaskType
from laneway.platform.queues import Lane, Queues
from laneway.platform.registry import BadTask, MissingTask, TaskRegistry, TaskSpec
from laneway.schemas.payload import Payload


class Order(Payload):
    """A payload with a field for an ordering key."""

    customer: str


@pytest.fixture(autouse=True)
def declared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Queues]:
    """The application declares the queues `orders` and `mail`."""
    queues = Queues()
    queues.declare({"orders": Lane.HIGH, "mail": Lane.LOW}, [])
    monkeypatch.setattr(module, "queues", queues)
    yield queues


def spec(name: str = "ship_order", **fields: Any) -> TaskSpec:
    return TaskSpec(**{"name": name, "own_queue": "orders", "payload": Order, **fields})


def registered(*specs: TaskSpec) -> TaskRegistry:
    registry = TaskRegistry()
    for each in specs:
        registry.add(each, object(), source=f"shop.{each.name}")
    return registry


def add_second_function_of_one_name() -> None:
    registered(spec()).add(spec(), object(), source="mail.ship_order")


def check_on_failure() -> None:
    registered(spec(on_failure="refund")).check()


def add_name_that_is_an_alias() -> None:
    registered(spec("send_order", aliases=("ship_order",)), spec())


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "an undeclared queue": (
        lambda: registered(spec(own_queue="nowhere")),
        "its queue 'nowhere' is not declared; declared queues: orders, mail.",
    ),
    "two tasks of one name": (
        add_second_function_of_one_name,
        "shop.ship_order and mail.ship_order have the same name.",
    ),
    "an alias that is a name": (
        lambda: registered(spec("send_order"), spec(aliases=("send_order",))),
        "its alias 'send_order' is the name of a task that is registered.",
    ),
    "an alias that is its own name": (
        lambda: registered(spec(aliases=("ship_order",))),
        "its alias 'ship_order' is the name of a task that is registered.",
    ),
    "a name that is an alias": (add_name_that_is_an_alias, "its name is an alias of the task 'send_order'."),
    "one alias of two tasks": (
        lambda: registered(spec("send_order", aliases=("old",)), spec(aliases=("old",))),
        "its alias 'old' is also an alias of the task 'send_order'.",
    ),
    "an empty alias": (lambda: registered(spec(aliases=("",))), "an alias has 1 to 155 characters."),
    "a payload that is no model": (
        lambda: registered(spec(payload=dict)),
        "its payload <class 'dict'> is not a pydantic model; subclass laneway.Payload.",
    ),
    "a payload that is no class": (
        lambda: registered(spec(payload="Order")),
        "its payload 'Order' is not a pydantic model; subclass laneway.Payload.",
    ),
    "an ordering key that is no field": (
        lambda: registered(spec(key="client")),
        "its ordering key 'client' is not a field of Order.",
    ),
    "an on_failure that is not registered": (check_on_failure, "its on_failure task 'refund' is not registered."),
}


@pytest.mark.parametrize("declaration", BAD)
def test_a_bad_declaration_is_refused_with_one_sentence(declaration: str) -> None:
    declare, problem = BAD[declaration]

    with pytest.raises(BadTask) as refused:
        declare()

    assert str(refused.value) == f"The task 'ship_order' cannot be registered: {problem}"
    assert isinstance(refused.value, ConfigError)


@pytest.mark.parametrize("name", ["", "x" * 156])
def test_a_name_has_1_to_155_characters(name: str) -> None:
    with pytest.raises(BadTask, match=r"a name has 1 to 155 characters\.$"):
        registered(spec(name))

    assert list(registered(spec("x" * 155))) == ["x" * 155]


def test_a_queue_may_be_declared_after_the_task_but_not_after_the_check(declared: Queues) -> None:
    declared.declare({}, [])
    registry = registered(spec())

    with pytest.raises(BadTask, match=r"declared queues: none\.$"):
        registry.check()
    declared.declare({"orders": Lane.HIGH}, [])
    registry.check()


def test_the_same_function_may_be_registered_again_as_by_a_reload() -> None:
    registry = registered(spec())

    registry.add(spec(own_queue="mail"), object(), source="shop.ship_order")

    assert registry["ship_order"].queue == "mail"


def test_two_registries_know_nothing_of_each_other() -> None:
    registered(spec())

    other = TaskRegistry()
    other.add(spec(), object(), source="mail.ship_order")

    assert list(other) == ["ship_order"]


def test_a_removed_task_frees_its_name() -> None:
    registry = registered(spec())
    registry.remove("ship_order")

    registry.add(spec(), object(), source="mail.ship_order")

    assert "ship_order" in registry


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownTaskType, match=r"'ship'.*ask_review, ship_order"):
        registered(spec(), spec("ask_review")).find("ship")


def test_a_task_is_found_by_its_role() -> None:
    registry = registered(spec(), spec("ask_review", role="the delivery of reviews"))

    assert registry.by_role("the delivery of reviews").name == "ask_review"
    assert registry.has_role("the delivery of reviews")
    assert not registry.has_role("nothing")
    with pytest.raises(MissingTask, match="No task is registered for nothing"):
        registry.by_role("nothing")


def test_a_listener_gets_the_tasks_of_before_and_after() -> None:
    first, second, received = object(), object(), list[object]()
    registry = TaskRegistry()
    registry.add(spec(), first, source="shop.ship_order")

    registry.bind(received.append)
    registry.add(spec("ask_review"), second, source="shop.ask_review")

    assert received == [first, second]


class Named:
    """What Celery needs of a task."""

    name = "ship_order"


def test_a_task_is_found_by_its_aliases_and_listed_by_its_name() -> None:
    registry = registered(spec(aliases=("send_order", "post_order")))

    assert registry["send_order"] is registry.find("post_order") is registry["ship_order"]
    assert list(registry) == ["ship_order"]
    assert registry.names_of("post_order") == ("ship_order", "send_order", "post_order")
    assert (registry.names_of("unknown"), registry.current_name("send_order")) == (("unknown",), "ship_order")
    registry.add(spec(), object(), source="shop.ship_order")  # a reload without them
    assert "send_order" not in registry


def test_an_on_failure_task_may_be_named_by_an_alias() -> None:
    registered(spec(on_failure="old"), spec("refund", aliases=("old",))).check()


def test_workers_get_the_task_under_every_name() -> None:
    registry, task, tasks = TaskRegistry(), Named(), dict[str, Any]()
    registry.add(spec(aliases=("send_order",)), task, source="shop")

    registry.bind(lambda each: tasks.__setitem__(each.name, each))

    assert tasks["ship_order"] is task
    assert type(tasks["send_order"]) is Named
