"""The commands of the key ring."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.core.settings import ROOT
from laneway.platform.sealing import Sealer, opened
from laneway.schemas.task import TaskState
from laneway.transport.key_ring import read_ring, ring_file
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


PROGRAM = """
import sys
{statement}
print(*sorted({{name.partition(".")[0] for name in sys.modules}} & set({packages!r})))
"""
NOT_NEEDED = ("alembic", "celery", "fastapi", "kombu", "redis", "sqlalchemy")


@pytest.mark.parametrize(
    "statement",
    [
        "from laneway.platform.application import application; application().load_settings()",
        "import laneway.server.health",
    ],
)
def test_what_needs_the_settings_alone_imports_no_more(statement: str) -> None:
    """Such as `laneway keys` and the health checks of containers, which start often."""
    program = PROGRAM.format(statement=statement, packages=NOT_NEEDED)
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert ran.stdout == "\n"


def test_without_the_setting_and_without_the_file_the_command_says_what_to_do(
    laneway: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEY_RING_FILE", raising=False)
    assert "KEY_RING_FILE is not set" in laneway("keys", "list").err
    monkeypatch.setenv("KEY_RING_FILE", str(tmp_path / "none.json"))
    missing = laneway("keys", "list")
    assert missing.code == 1
    assert "does not exist; `laneway keys create` makes it" in missing.err


@pytest.fixture
def older(laneway: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The id of a task whose result is encrypted with an older key, and the id of that key."""
    path = tmp_path / "keys.json"
    monkeypatch.setenv("KEY_RING_FILE", str(path))
    laneway("keys", "create")
    id = laneway.end(TaskState.COMPLETED, result=Sealer(path).seal({"answer": "planted"}, what="It"))
    (key,) = read_ring(path).keys
    assert laneway("keys", "rotate", "--overlap", "0s").code == 0
    monkeypatch.setattr(ring_file(path), "_check_at", 0)  # as in a new process
    return id, key.id


def test_a_key_is_removed_when_what_it_encrypts_is_encrypted_again(
    laneway: Shell, older: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, key = older
    refused = laneway("keys", "remove", key)
    assert refused.code == 1
    assert "rows that are encrypted with it: 1; run `laneway keys reencrypt` first" in refused.err
    assert len(laneway("keys", "list", "--json").json()) == 2
    again, nothing = (laneway("keys", "reencrypt") for _ in range(2))
    assert (again.code, again.out, again.err) == (0, "Encrypted again: 1 rows, 0 large payloads, 0 results\n", "")
    assert nothing.out == "Encrypted again: 0 rows, 0 large payloads, 0 results\n"
    assert laneway("keys", "remove", key).code == 0
    monkeypatch.setattr(ring_file(tmp_path / "keys.json"), "_check_at", 0)
    assert opened(laneway.site.row(id).result) == {"answer": "planted"}


def test_a_key_in_use_is_removed_by_force_and_then_the_result_says_which_key_is_missing(
    laneway: Shell, older: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, key = older
    assert laneway("keys", "remove", key, "--force").out == f"{key}: removed\n"
    monkeypatch.setattr(ring_file(tmp_path / "keys.json"), "_check_at", 0)
    shown = laneway("status", id)
    assert shown.code == 0
    assert f"the key '{key}' is not in the key ring of this process" in shown.out
    assert "planted" not in shown.out


def test_a_key_is_not_removed_while_the_database_cannot_be_asked(
    laneway: Shell, older: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:1/none")
    refused = laneway("keys", "remove", older[1])
    assert refused.code == 1
    assert "--force does not look for it" in refused.err
    assert laneway("keys", "remove", older[1], "--force").code == 0
