"""`laneway audit-log`: what commands do is listed with the user of this machine, and the check finds damage."""

from __future__ import annotations

import getpass
import os
from pwd import getpwuid

import pytest
from sqlalchemy import text

from laneway.platform.access.caller import NOBODY, current_caller
from tests.fixtures.shell import Shell

USER = getpwuid(os.getuid()).pw_name


def test_a_command_is_listed_with_the_user_of_this_machine(laneway: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    assert getpass.getuser() == "somebody-else"
    laneway("queues", "pause", "crm")
    laneway("queues", "resume", "crm")

    resumed, paused = laneway("audit-log", "list", "--object", "crm", "--limit", "2", "--json").json()
    assert (paused["caller_kind"], paused["caller"], paused["action"]) == ("command", USER, "queue.pause")
    shown = laneway("audit-log", "list", "--action", "queue.resume", "--since", "1m").out.splitlines()
    assert shown[1].split()[0] == str(resumed["seq"])
    assert shown[1].endswith(f"command {USER}  queue.resume  queue crm  paused true → false")
    assert current_caller() is NOBODY


def test_the_check_prints_an_anchor_and_names_the_damage(laneway: Shell) -> None:
    laneway("cleanup")
    first = laneway("audit-log", "verify")
    entries, anchor = first.out.split()[1], first.out.split()[-1]
    assert (first.code, first.out) == (0, f"All {entries} entries are as they were written. {anchor}\n")
    laneway("audit", "--repair")
    assert laneway("audit-log", "verify", "--expect", anchor).code == 0
    assert laneway("audit-log", "verify", "--expect", f"{entries}:{'0' * 64}").out.startswith(
        f"Entry {entries} was changed."
    )
    assert laneway("audit-log", "verify", "--expect", "17").code == 2

    last = int(entries) + 1
    with laneway.site.services.database.transaction() as session:
        session.execute(text("UPDATE audit_log_head SET seq = seq + 1"))
    try:
        removed, data = laneway("audit-log", "verify"), laneway("audit-log", "verify", "--json")
    finally:
        with laneway.site.services.database.transaction() as session:
            session.execute(text("UPDATE audit_log_head SET seq = seq - 1"))
    assert (removed.code, removed.out) == (*(1, f"Entry {last + 1} was removed. The {last} entries before it hold.\n"),)
    assert (data.code, data.json()["damage"], data.json()["entry"]) == (1, "removed", last + 1)


def test_an_erasure_is_proven_where_the_database_is(laneway: Shell) -> None:
    words = ("audit-log", "prove", "1", "--subject", "ada@example.com", "--receipt", "x")
    assert "does not work over HTTP" in laneway("--url", "http://127.0.0.1:9", *words).err
