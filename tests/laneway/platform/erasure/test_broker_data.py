"""What the erasure finds in the broker."""

from __future__ import annotations

import pytest

from laneway.engine import Message
from laneway.platform.erasure.broker_data import find_messages
from laneway.platform.erasure.subject import Subject
from tests.fixtures.platform import Platform

ADA, BOB = "lovelace@example.com", "hopper@example.com"


@pytest.mark.parametrize("depth", [0, 450, 700, 5000])
def test_a_person_is_found_in_a_message_of_any_depth(platform: Platform, depth: int) -> None:
    for mail in (ADA, BOB):
        arguments = f'[[], {{"to": {"[" * depth}"{mail}"{"]" * depth}}}, {{}}]'
        platform.engine.put("stray", Message(task_id=f"to-{mail[0]}", name="x", body=b"{}\0" + arguments.encode()))
    assert [found.task_id for found in find_messages(platform.broker, Subject(ADA))] == ["to-l"]


def test_a_person_is_found_in_the_chain_of_a_message(platform: Platform) -> None:
    for mail in (ADA, BOB):
        later = f'[[], {{}}, {{"chain": [{{"task": "x", "args": [], "kwargs": {{"to": "{mail}"}}}}]}}]'
        platform.engine.put("stray", Message(task_id=f"to-{mail[0]}", name="x", body=b"{}\0" + later.encode()))
    assert [found.task_id for found in find_messages(platform.broker, Subject(ADA))] == ["to-l"]
