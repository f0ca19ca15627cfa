"""The key ring: its file, its rotation, and what it says about a file that cannot be used."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from laneway.transport import key_ring
from laneway.transport.key_ring import (
    MOST_KEYS,
    KeyInUse,
    KeyRingFile,
    KeyRingUnusable,
    UnknownKey,
    create_ring,
    read_ring,
)
from tests.fixtures.waiting import wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "ring.json"
    assert create_ring(path)
    return path


def test_a_new_file_has_one_key_and_only_its_owner_may_read_it(path: Path) -> None:
    (key,) = read_ring(path).keys
    assert len(key.secret) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert not create_ring(path), "a second process does not replace it"
    assert read_ring(path).keys == (key,)
    assert [each.name for each in path.parent.iterdir()] == ["ring.json"]
    assert "secret" not in repr(key)


def test_a_new_key_signs_after_the_overlap_and_the_old_one_verifies(path: Path) -> None:
    (old,) = read_ring(path).keys
    read_ring(path).rotated(overlap=timedelta(minutes=10)).write(path)
    ring = read_ring(path)
    new, kept = ring.keys
    assert kept == old
    assert ring.current() == old
    assert ring.current(datetime.now(UTC) + timedelta(minutes=11)) == new
    assert ring.get(old.id) == old
    assert new.derived("a") != new.derived("b") != old.derived("b")


def test_the_current_key_cannot_be_removed_and_others_can(path: Path) -> None:
    ring = read_ring(path).rotated(overlap=timedelta())
    new, old = ring.keys
    assert ring.without(old.id).keys == (new,)
    with pytest.raises(KeyInUse, match="it is the current key"):
        ring.without(new.id)
    with pytest.raises(UnknownKey, match="has no key 'zz'; it has"):
        ring.without("zz")
    while len(ring.keys) < MOST_KEYS:
        ring = ring.rotated(overlap=timedelta())
    with pytest.raises(KeyInUse, match="at most"):
        ring.rotated(overlap=timedelta())


def test_a_running_process_reads_a_changed_file_and_keeps_its_keys_when_the_file_is_broken(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(key_ring, "CHECK_SECONDS", 0.01)
    file = KeyRingFile(path)
    (old,) = file.ring.keys
    read_ring(path).rotated(overlap=timedelta()).write(path)
    wait_until(lambda: len(file.ring.keys) == 2, seconds=5)
    assert file.ring.current() != old
    path.write_text("{}")
    wait_until(lambda: file.ring.keys and "stay in use" in caplog.text, seconds=5)
    assert len(file.ring.keys) == 2


def test_a_file_that_cannot_be_used_is_one_clear_sentence(path: Path) -> None:
    good = json.loads(path.read_text())
    short = {"keys": [good["keys"][0] | {"secret": "c2hvcnQ="}]}
    twice = {"keys": good["keys"] * 2}
    for content in ("", "[]", "{}", '{"keys": []}', '{"keys": [1]}', json.dumps(short), json.dumps(twice)):
        path.write_text(content)
        with pytest.raises(KeyRingUnusable, match=r"The key ring .* cannot be used: it "):
            read_ring(path)
    path.write_text(json.dumps(good))
    os.chmod(path, 0o644)  # noqa: PTH101
    with pytest.raises(KeyRingUnusable, match="every user of the machine has access to it; run `chmod"):
        read_ring(path)
    path.unlink()
    with pytest.raises(KeyRingUnusable, match="does not exist; `laneway keys create` makes it"):
        read_ring(path)
