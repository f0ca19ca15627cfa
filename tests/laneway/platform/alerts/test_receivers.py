"""Receivers are told by Apprise: real mail and HTTP servers, one that is away at first, and no address in sight."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import asdict

import pytest
from pydantic import SecretStr

from laneway.platform import clock
from laneway.platform.alerts import receivers as module
from laneway.platform.alerts.receivers import BadReceiver, Receivers
from laneway.platform.alerts.rules import Severity
from laneway.platform.db.queries import alerts as repository
from laneway.platform.errors import NotConfigured, UpstreamError
from laneway.schemas.alert import AlertNotice
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.http_peer import HttpPeer, HttpReply
from tests.fixtures.mail_server import MailServer
from tests.fixtures.platform import Platform
from tests.fixtures.valkey import free_port

pytestmark = ONE_DATABASE
SECRET = "hidden-4711"


def receivers(platform: Platform, **addresses: str) -> Receivers:
    given = {name: SecretStr(address) for name, address in addresses.items()}
    return Receivers(platform.database, platform.settings.alerts.model_copy(update={"receivers": given}))


def notice(platform: Platform, *, receiver: str = "ops", reminded: bool = False) -> AlertNotice:
    """A notice about an open alert, as a sweep submits it."""
    now = clock.now()
    with platform.database.transaction() as session:
        repository.open_alert(session, "no_worker", subject="crm", message="It is wrong. <b>Do</b> this.", now=now)
        (alert,) = repository.all_open(session)
        alert.notified_at = now
        ids = [alert.id]
    return AlertNotice(receiver=receiver, at=now, **({"reminded": ids} if reminded else {"opened": ids}))


def test_a_test_says_what_each_receiver_answered_and_hides_their_addresses(
    platform: Platform, http_peer: HttpPeer, capfd: pytest.CaptureFixture[str]
) -> None:
    target = f"127.0.0.1:{http_peer.port}"
    http_peer.always = lambda request: (
        HttpReply(307, {"Location": "/elsewhere"})
        if request.path == "/moved"
        else HttpReply(404 if "bad" in request.path else 200)
    )
    with MailServer() as mail:
        answers = receivers(
            platform,
            chat=f"json://user:{SECRET}@{target}/{SECRET}",
            bad=f"json://{target}/bad/{SECRET}",
            moved=f"json://{target}/moved?redirect=yes",
            away=f"json://user:{SECRET}@127.0.0.1:{free_port()}/",
            none=f"nope://{SECRET}",
            mail=f"mailto://127.0.0.1:{mail.port}?from=laneway@example.com&to=ops@example.com",
        ).test()

    assert {answer.receiver: answer.answer for answer in answers} == {
        "chat": "it took the notice",
        "bad": "it answered 404",
        "moved": "it answered 307",
        "away": "it refuses connections",
        "none": "Apprise cannot use its address; docs/alerts.md has examples",
        "mail": "it took the notice",
    }
    assert "/elsewhere" not in {request.path for request in http_peer.requests}, "no redirect is followed"
    assert [arrived.to for arrived in mail.arrived] == [("ops@example.com",)]
    assert "Test of Laneway" in mail.arrived[0].message["Subject"]
    assert SECRET not in "".join(capfd.readouterr()) + str(answers)


@pytest.mark.usefixtures("platform_database")
def test_the_sender_says_at_once_what_a_receiver_answered_while_another_one_hangs(http_peer: HttpPeer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections and answers nothing
        ports = (silent.getsockname()[1], http_peer.port)
        job = {"addresses": [f"json://127.0.0.1:{port}/" for port in ports], **asdict(module.TEST)}
        with subprocess.Popen(
            [sys.executable, *module.SENDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as sender:
            assert sender.stdin is not None and sender.stdout is not None
            sender.stdin.write(json.dumps(job).encode())
            sender.stdin.close()
            first = json.loads(sender.stdout.readline())
            hangs = sender.poll() is None
            sender.kill()

    assert first == {"number": 1, "sent": True, "answer": "it took the notice", "final": False}
    assert hangs


def test_receivers_that_hang_do_not_hide_what_the_others_answered(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender is a process that writes one answer and a half, and then hangs."""
    line = json.dumps({"number": 1, "sent": True, "answer": "it took the notice", "final": False})
    hanging = f"import sys, time; print({line!r}); print('{{', end='', flush=True); time.sleep(60)"
    monkeypatch.setattr(module, "SENDER", ("-S", "-c", hanging))
    monkeypatch.setattr(module, "SECONDS", 2.0)
    answers = receivers(platform, hangs=f"json://{SECRET}", chat=f"json://{SECRET}").test()

    assert [(answer.receiver, answer.answer) for answer in answers] == [
        ("hangs", "it did not take the notice within 2 s"),
        ("chat", "it took the notice"),
    ]


def test_a_receiver_that_is_away_is_told_when_it_is_back_and_no_other_one_again(
    platform: Platform, http_peer: HttpPeer
) -> None:
    ops = receivers(platform, ops=f"json://127.0.0.1:{http_peer.port}/{SECRET}")
    told = notice(platform)
    http_peer.reply_with(HttpReply(503))

    with pytest.raises(UpstreamError, match="The receiver 'ops' of alerts failed: it answered 503") as failed:
        ops.tell(told, severity={})
    assert SECRET not in str(failed.value)
    assert ops.tell(told, severity={"no_worker": Severity.LOW}) == {"told": "ops"}

    first, second = (request.json() for request in http_peer.requests)
    assert second["title"] == "Alert: It is wrong. <b>Do</b> this."
    assert "It is wrong. <b>Do</b> this." in second["message"]
    assert (first["type"], second["type"]) == ("failure", "warning"), "an unknown kind is severe"


def test_text_of_others_is_no_markup_of_a_mail(platform: Platform) -> None:
    with MailServer() as mail:
        address = f"mailto://127.0.0.1:{mail.port}?from=laneway@example.com&to=ops@example.com"
        receivers(platform, ops=address).tell(notice(platform), severity={})

    (arrived,) = mail.arrived
    assert [part.get_content_type() for part in arrived.message.walk()] == ["text/plain"]


def test_what_a_later_notice_tells_is_left_out(platform: Platform, http_peer: HttpPeer) -> None:
    ops = receivers(platform, ops=f"json://127.0.0.1:{http_peer.port}/")
    first = notice(platform)
    later = notice(platform, reminded=True)

    assert "skipped" in ops.tell(first, severity={})
    assert ops.tell(later, severity={}) == {"told": "ops"}
    assert len(http_peer.requests) == 1


def test_a_receiver_that_is_not_in_the_settings_any_more_is_left_out(platform: Platform) -> None:
    assert "skipped" in receivers(platform).tell(notice(platform), severity={})


def test_an_address_that_apprise_does_not_know_is_not_tried_again(platform: Platform) -> None:
    with pytest.raises(BadReceiver, match="'ops' in ALERT_RECEIVERS cannot be used"):
        receivers(platform, ops=f"nope://{SECRET}").tell(notice(platform), severity={})


def test_without_receivers_a_test_says_what_to_set(platform: Platform) -> None:
    with pytest.raises(NotConfigured, match="set ALERT_RECEIVERS"):
        receivers(platform).test()
