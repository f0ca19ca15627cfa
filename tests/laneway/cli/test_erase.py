"""`laneway erase`: what it finds, asks, removes and proves."""

from __future__ import annotations

import io
import re

import pytest

from tests.fixtures.shell import Shell

ADA = "ada@example.com"


def submit(laneway: Shell, *, conversation: str = "conversation-ada") -> str:
    return laneway.site.message(conversation, f"I am {ADA}.")


def test_a_dry_run_shows_what_there_is(laneway: Shell) -> None:
    id = submit(laneway)

    shown, data = (laneway("erase", "--subject", ADA, "--dry-run", *more) for more in ((), ("--json",)))

    assert (shown.code, data.code) == (0, 0)
    assert shown.out.splitlines() == ["Found: tasks: 1, broker messages: 1.", f"  tasks: {id}"]
    assert (data.json()["dry_run"], data.json()["counts"]["tasks"], data.json()["entry"]) == (True, 1, None)
    assert laneway.state(id) == "pending"


def test_the_erasure_prints_a_proof_that_holds(laneway: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    submit(laneway)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{ADA}\n"))
    removed = laneway("erase", "--subject", "-", "--yes")

    assert removed.out.splitlines()[0] == "Removed: tasks: 1, broker messages: 1."
    proof = re.fullmatch(r"Proof: entry (\d+) of the audit log; receipt ([0-9a-f]{32})", removed.out.splitlines()[-1])
    assert proof is not None
    entry, receipt = proof.groups()
    assert laneway("audit-log", "prove", entry, "--subject", ADA, "--receipt", receipt).code == 0
    other = laneway("audit-log", "prove", entry, "--subject", "bob@example.com", "--receipt", receipt)
    assert (other.code, other.out) == (1, f"Entry {entry} is no proof about this person.\n")
    assert laneway("erase", "--subject", ADA, "--dry-run").out == "Found: nothing.\n"
    assert laneway("audit-log", "verify").code == 0
    assert ADA not in laneway("audit-log", "list", "--json").out


def test_without_a_yes_nothing_is_removed(laneway: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    id = submit(laneway)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))

    asked = laneway("erase", "--subject", ADA)

    assert asked.code == 1
    assert "Remove all of this? It cannot be undone." in asked.out
    assert laneway.state(id) == "pending"


def test_a_subject_that_would_be_everybody_is_refused(laneway: Shell) -> None:
    refused = laneway("erase", "--subject", "a", "--yes")

    assert (refused.code, refused.err) == (
        *(1, "A subject has 3 to 254 characters: an e-mail address, a phone number or an id.\n"),
    )
