"""`laneway adopt` in a project with the platform: the messages go where their tasks are declared, and get rows."""

from __future__ import annotations

import json

from celery import Celery

from tests.fixtures.shell import Shell

MESSAGE = "process_conversation_message_task"


def payload(number: int) -> dict[str, str]:
    return {"conversation_id": f"c-{number}", "message": "Hello", "message_id": f"m-{number}"}


def test_messages_of_a_celery_project_get_the_queue_of_their_declaration_and_a_row(laneway: Shell) -> None:
    own = laneway.site
    assert own.services.broker.engine is not None
    runner = own.services.broker.engine.runner
    with Celery("shop", broker=own.app.conf.broker_url, set_as_current=False) as celery:
        sent = [celery.send_task(MESSAGE, kwargs=payload(number)).id for number in range(3)]
        celery.send_task("of.another.project")
    try:
        looked = laneway("adopt", "--json")
        assert (looked.code, looked.json()["moved"], runner.call("LLEN", "celery")) == (0, 3, 4)

        ran = laneway("adopt", "--apply", "--json")
    finally:
        left = runner.call("LRANGE", "celery", 0, -1)
        runner.call("DEL", "celery", "laneway:adopted")

    assert (ran.code, ran.json()["moved"], ran.json()["left"]) == (0, 3, 1)
    assert [json.loads(member)["headers"]["task"] for member in left] == ["of.another.project"]
    own.services.recorder.catch_up()
    assert {(own.row(id).queue, own.row(id).state) for id in sent} == {("conversations", "pending")}


def test_the_help_and_a_wrong_option_are_those_of_the_command(laneway: Shell) -> None:
    assert "--take-unacked" in laneway("adopt", "--help").out
    assert laneway("adopt", "--aply").code == 2
    assert "is for an app by name" in laneway("adopt", "--to", "redis://127.0.0.1:1/0").err
