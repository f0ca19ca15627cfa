"""The commands of the key ring."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fixtures.shell import Shell


def test_keys_are_made_listed_rotated_and_removed(
    laneway: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_RING_FILE", str(tmp_path / "keys.json"))
    made, again, kept = (laneway("keys", "create", *more) for more in ((), (), ("--if-missing",)))
    assert (made.code, kept.code) == (0, 0)
    assert again.code != 0
    assert "`laneway keys rotate` adds a key" in again.err
    (first,) = laneway("keys", "list", "--json").json()
    assert first["current"]
    rotated = laneway("keys", "rotate", "--overlap", "1h")
    assert "signs from" in rotated.out
    later, current = laneway("keys", "list", "--json").json()
    assert (later["current"], current) == (False, first)
    refused = laneway("keys", "remove", first["id"])
    assert refused.code != 0
    assert "it is the current key" in refused.err
    assert laneway("keys", "remove", later["id"]).code == 0
    shown = laneway("keys", "list")
    assert shown.out.split()[0] == first["id"]
    secret = json.loads((tmp_path / "keys.json").read_text())["keys"][0]["secret"]
    assert secret not in made.out + shown.out + rotated.out


def test_without_the_setting_and_without_the_file_the_command_says_what_to_do(
    laneway: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEY_RING_FILE", raising=False)
    assert "KEY_RING_FILE is not set" in laneway("keys", "list").err
    monkeypatch.setenv("KEY_RING_FILE", str(tmp_path / "none.json"))
    missing = laneway("keys", "list")
    assert missing.code == 1
    assert "does not exist; `laneway keys create` makes it" in missing.err
