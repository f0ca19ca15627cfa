"""`python -m laneway.platform.alerts.send`: sends one text to receivers, by Apprise, in a process of its own.

Apprise loads its 150 services, which takes 50 MB; no worker keeps them. The process gets the addresses on its standard
input. It writes a line to its standard output as soon as a receiver has answered: its number, whether it took the text,
and why not. It follows no
redirect, and writes no log: a receiver's answer and Apprise's own texts may repeat an address.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, Final

THREADS: Final = 8
CONNECT_SECONDS, READ_SECONDS = 5.0, 10.0
SECONDS: Final = 30.0
"""The longest that one receiver may take."""
_STATUS: Final = re.compile(r"\berror=(\d{3})\b|[({](\d{3}), b?['\"]")
_REASONS: Final = (
    ("Name or service not known", "its host is not known"),
    ("No address associated", "its host is not known"),
    ("Temporary failure in name resolution", "its host is not known"),
    ("Connection refused", "it refuses connections"),
    ("timed out", "it did not answer in time"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not valid"),
    ("Connection unexpectedly closed", "it closed the connection"),
    ("Connection aborted", "it closed the connection"),
    ("Network is unreachable", "its network cannot be reached"),
)


def main() -> None:
    """Read the job, send, and write the answers."""
    job = json.load(sys.stdin)
    apprise_log = logging.getLogger("apprise")
    apprise_log.addHandler(logging.NullHandler())
    apprise_log.setLevel(logging.DEBUG)  # the reasons are in its details
    addresses: list[str] = job["addresses"]
    with ThreadPoolExecutor(THREADS) as pool:
        sent = {pool.submit(_send, job, address): number for number, address in enumerate(addresses)}
        for done in as_completed(sent):
            sys.stdout.write(json.dumps({"number": sent[done], **done.result()}) + "\n")
            sys.stdout.flush()


def _send(job: dict[str, Any], address: str) -> dict[str, Any]:
    from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType

    asset = AppriseAsset(app_id="Laneway", app_desc="Laneway", http_redirects=False)
    apprise: Any = Apprise(asset=asset)
    try:
        receiver = apprise.instantiate(address, asset=asset, suppress_exceptions=False)
        receiver.redirects = False  # an address cannot ask for them
        receiver.socket_connect_timeout, receiver.socket_read_timeout = CONNECT_SECONDS, READ_SECONDS
        apprise.add(receiver)
    except Exception:  # noqa: BLE001 - the error's text may repeat the address
        return {"sent": False, "answer": "Apprise cannot use its address; docs/alerts.md has examples", "final": True}
    try:
        result: Any = apprise.notify(
            body=job["body"],
            title=job["title"],
            notify_type=NotifyType(job["kind"]),
            body_format=NotifyFormat.TEXT,
            timeout=SECONDS,
            log_level=logging.DEBUG,
        )
    except Exception as error:  # noqa: BLE001 - a service may raise anything
        return {"sent": False, "answer": f"Apprise failed: {type(error).__name__}", "final": False}
    if result:
        return {"sent": True, "answer": "it took the notice", "final": False}
    return {"sent": False, "answer": _reason("\n".join(entry.message for entry in result.logs())), "final": False}


def _reason(noted: str) -> str:
    """Why a receiver did not take the text, in words of our own: Apprise's log may repeat the address."""
    found = _STATUS.search(noted)
    if found is not None:
        return f"it answered {found[1] or found[2]}"
    return next((reason for sign, reason in _REASONS if sign in noted), "it did not take the notice")


if __name__ == "__main__":
    main()
