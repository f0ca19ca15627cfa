"""The receivers of notices: sends a text to addresses of Apprise, and says what each answered.

The addresses are secrets. They are in the settings, and go to the process that sends on its standard input. Everywhere
else a receiver has the name that its operator gave it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from threading import Lock
from typing import Any, Final

from laneway.platform.alerts.notices import Notice, compose
from laneway.platform.alerts.rules import Severity
from laneway.platform.audit_log.recording import record
from laneway.platform.db.models import Alert
from laneway.platform.db.queries import alerts as repository
from laneway.platform.db.session import Database
from laneway.platform.errors import NotConfigured, PermanentError, PlatformError, UpstreamError
from laneway.platform.logging import logger
from laneway.platform.settings import AlertSettings
from laneway.schemas.alert import AlertNotice, ReceiverAnswer

log = logger(__name__)

SECONDS: Final = 45.0
"""The longest that sending to all addresses of one call may take."""
SENDER: Final = ("-m", "laneway.platform.alerts.send")
TEST: Final = Notice(
    "Test of Laneway's alerts",
    "This is a test. Notices about alerts will come here.\n",
    "info",
)
KEPT_VARIABLES: Final = (
    *("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
"""The variables of the environment that the sending process gets. Our secrets are not among them."""


class TestRuns(PlatformError):
    """A test of the receivers runs already in this process."""

    __test__ = False  # pytest takes classes of this name for tests
    status, title = 409, "Test runs"
    template = "A test of the receivers runs already: wait for its end."


class BadReceiver(PermanentError):
    """An address that Apprise does not know."""

    title = "Bad receiver"
    template = "The receiver {receiver!r} in ALERT_RECEIVERS cannot be used: {problem}."
    receiver: str
    problem: str


class Receivers:
    """Tells the receivers in ALERT_RECEIVERS."""

    def __init__(self, database: Database, settings: AlertSettings, *, public_url: str | None = None) -> None:
        self._database, self._settings, self._public_url = database, settings, public_url
        self._test = Lock()

    def test(self) -> list[ReceiverAnswer]:
        """Send a test notice to each receiver, and write that into the audit log. Raises NotConfigured, TestRuns."""
        names = list(self._settings.receivers)
        if not names:
            raise NotConfigured("The sending of notices", "ALERT_RECEIVERS")
        if not self._test.acquire(blocking=False):
            raise TestRuns
        try:
            with self._database.transaction() as session:
                record(session, "alerts.test", ("alerts", "receivers"), after={"receivers": names})
            answers = self._send(names, TEST)
        finally:
            self._test.release()
        return [
            ReceiverAnswer(receiver=name, sent=answer["sent"], answer=answer["answer"])
            for name, answer in zip(names, answers, strict=True)
        ]

    def tell(self, notice: AlertNotice, *, severity: dict[str, Severity]) -> dict[str, Any]:
        """Tell one receiver about alerts in their present state.

        What a later notice tells is left out. Raises UpstreamError while the receiver does not take it, BadReceiver.
        """
        if notice.receiver not in self._settings.receivers:
            return {"skipped": f"ALERT_RECEIVERS has no receiver {notice.receiver!r} any more"}
        text = self._text(notice, severity)
        if text is None:
            return {"skipped": "a later notice tells it, or the alerts were deleted"}
        (answer,) = self._send([notice.receiver], text)
        if answer["final"] and not answer["sent"]:
            raise BadReceiver(notice.receiver, answer["answer"])
        if not answer["sent"]:
            raise UpstreamError(f"The receiver {notice.receiver!r} of alerts", answer["answer"])
        return {"told": notice.receiver}

    def _text(self, notice: AlertNotice, severity: dict[str, Severity]) -> Notice | None:
        with self._database.reading() as session:
            opened, reminded, ended = (
                repository.by_id(session, ids) for ids in (notice.opened, notice.reminded, notice.ended)
            )
        opened, reminded = ([alert for alert in alerts if _is_latest(alert, notice)] for alerts in (opened, reminded))
        if not (opened or reminded or ended):
            return None
        severe = any(severity.get(alert.kind, Severity.SEVERE) is Severity.SEVERE for alert in (*opened, *reminded))
        return compose(opened, reminded, ended, severe=severe, address=self._public_url)

    def _send(self, names: Sequence[str], notice: Notice) -> list[dict[str, Any]]:
        addresses = [self._settings.receivers[name].get_secret_value() for name in names]
        job = json.dumps({"addresses": addresses, **asdict(notice)})
        came, missing = _run(job)
        answers = [came.get(number, missing) for number in range(len(names))]
        for name, answer in zip(names, answers, strict=True):
            log.info("notice about alerts", receiver=name, sent=answer["sent"], answer=answer["answer"])
        return answers


def _is_latest(alert: Alert, notice: AlertNotice) -> bool:
    """Whether no later notice tells that this alert is open."""
    return alert.notified_at is None or alert.notified_at <= notice.at


def _run(job: str) -> tuple[dict[int, dict[str, Any]], dict[str, Any]]:
    """Let a process send: the answers that came, by the number of the address, and the answer of all others."""
    try:
        ended = subprocess.run(  # noqa: S603  our own program
            [sys.executable, *SENDER],
            input=job.encode(),
            capture_output=True,
            timeout=SECONDS,
            env={name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ},
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return _answers(late.stdout or b""), _failed(f"it did not take the notice within {SECONDS:g} s")
    except OSError:
        came = dict[int, dict[str, Any]]()
    else:
        came = _answers(ended.stdout)
    if not came:
        log.error("notices about alerts cannot be sent: the process that sends them failed")
    return came, _failed("the process that sends notices failed: is laneway[alerts] installed?")


def _answers(written: bytes) -> dict[int, dict[str, Any]]:
    """The whole lines that the process has written."""
    lines = [json.loads(line) for line in written.split(b"\n")[:-1]]
    return {line.pop("number"): line for line in lines}


def _failed(answer: str) -> dict[str, Any]:
    return {"sent": False, "answer": answer, "final": False}
