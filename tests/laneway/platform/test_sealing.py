"""Sealed values: only a process with the key reads them, and nobody changes them unnoticed."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.platform import sealing
from laneway.platform.sealing import (
    SEALED,
    KeysMissing,
    SealedUnreadable,
    Sealer,
    holds_sealed,
    is_sealed,
    opened,
    opened_if_possible,
    opened_payload,
    sealed_for_all,
    shown,
    stored_digest,
    use_for_all,
)
from laneway.transport.key_ring import create_ring, read_ring, ring_file

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ring") / "keys.json"
    create_ring(path)
    return path


@pytest.fixture(scope="module")
def sealer(ring: Path) -> Sealer:
    return Sealer(ring)


@given(value=JSON)
def test_a_value_comes_back_as_it_was_and_is_not_readable_meanwhile(sealer: Sealer, value: Any) -> None:
    sealed = sealer.seal({"planted-text": value}, what="it")
    assert is_sealed(sealed)
    assert "planted-text" not in json.dumps(sealed)
    assert opened(sealed) == {"planted-text": value}


def test_equal_values_look_different_and_a_sealed_one_is_not_sealed_twice(sealer: Sealer) -> None:
    first, second = (sealer.seal({"a": 1}, what="it") for _ in range(2))
    assert first != second
    assert sealer.seal(first, what="it") is first


def test_a_changed_value_is_not_opened_wherever_it_was_changed(sealer: Sealer) -> None:
    start, key, text = sealer.seal({"a": 1}, what="it")[SEALED].split(".")
    for position in range(0, len(text) - 2, 3):
        other = "A" if text[position] != "A" else "B"
        changed = {SEALED: f"{start}.{key}.{text[:position]}{other}{text[position + 1 :]}"}
        with pytest.raises(SealedUnreadable, match="it was changed"):
            opened(changed)


def test_a_key_that_is_not_here_is_named(sealer: Sealer, tmp_path: Path) -> None:
    sealed = sealer.seal(["secret"], what="it")
    foreign = {SEALED: sealed[SEALED].replace(sealed[SEALED].split(".")[1], "none-1")}
    with pytest.raises(SealedUnreadable, match="the key 'none-1' is not in the key ring"):
        opened(foreign)
    assert "none-1" in shown(foreign)[SEALED]


def test_a_value_is_bound_to_the_id_of_its_key(sealer: Sealer, ring: Path, tmp_path: Path) -> None:
    sealed = sealer.seal(["secret"], what="it")
    content = json.loads(ring.read_text())
    id, content["keys"][0]["id"] = content["keys"][0]["id"], "renamed"
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(content))
    path.chmod(0o600)
    Sealer(path)
    with pytest.raises(SealedUnreadable, match="it was changed"):
        opened({SEALED: sealed[SEALED].replace(id, "renamed")})


def test_older_keys_open_after_a_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    create_ring(path)
    sealer = Sealer(path)
    before = sealer.seal("old", what="it")
    digest = sealer.keyed_digest("digest")
    read_ring(path).rotated(overlap=timedelta(0)).write(path)
    monkeypatch.setattr("laneway.transport.key_ring.CHECK_SECONDS", 0)
    ring_file(path)._check_at = 0
    after = sealer.seal("new", what="it")
    assert before[SEALED].split(".")[1] in sealer.older_keys
    assert after[SEALED].split(".")[1] not in sealer.older_keys
    assert (opened(before), opened(after)) == ("old", "new")
    assert sealer.keyed_digest("digest") != digest
    assert digest in sealing.keyed_digests("digest")


def test_digests_of_other_values_are_keyed_where_everything_is_encrypted(ring: Path) -> None:
    before = sealing._process.sealer  # pyright: ignore[reportPrivateUsage]
    try:
        use_for_all(Sealer(ring))
        assert (stored_digest("digest"), sealed_for_all({"a": 1})) == ("digest", {"a": 1})
        use_for_all(Sealer(ring, everything=True))
        assert stored_digest("digest") in sealing.keyed_digests("digest")
        assert is_sealed(sealed_for_all({"a": 1}))
    finally:
        use_for_all(before)


def test_without_keys_nothing_is_sealed_and_the_error_says_what_to_do() -> None:
    with pytest.raises(KeysMissing, match=r"The payload must be encrypted, .*laneway keys create"):
        Sealer().seal({}, what="The payload")


@pytest.mark.parametrize(
    "value",
    [
        {SEALED: "v1.abc.!!!"},
        {SEALED: "v2.abc.QUJD"},
        {SEALED: 5},
        {SEALED: ["v1.abc.QUJD"]},
        {SEALED: "v1.abc.QUJD", "more": 1},
        {SEALED: "v1.ABC/../.QUJD"},
        "v1.abc.QUJD",
        [],
        None,
    ],
)
def test_what_has_not_the_form_of_a_sealed_value_stays_as_it_is(value: Any) -> None:
    assert not is_sealed(value)
    assert opened(value) == value


def test_results_of_encrypted_tasks_are_opened_in_a_payload_alone_and_in_a_list(sealer: Sealer) -> None:
    one, two = (sealer.seal({"number": number}, what="it") for number in (1, 2))
    payload: dict[str, Any] = {"first": one, "all": [one, two], "plain": {"inner": one}}
    assert holds_sealed(payload)
    assert opened_payload(payload) == {
        "first": {"number": 1},
        "all": [{"number": 1}, {"number": 2}],
        "plain": {"inner": one},
    }
    assert opened_payload(sealer.seal({"a": 1}, what="it")) == {"a": 1}
    assert opened_payload({**sealer.seal({"a": 1}, what="it"), "b": 2}) == {"a": 1, "b": 2}


def test_at_any_depth_what_can_be_opened_is_opened_and_the_rest_stays(sealer: Sealer) -> None:
    one = sealer.seal({"mail": "ada"}, what="it")
    foreign = {SEALED: one[SEALED].replace(one[SEALED].split(".")[1], "none-1")}
    given = {"before": [one, foreign], "chain": [{"kwargs": {**one, "factor": 2}}], "plain": 1}
    assert opened_if_possible(given) == {
        "before": [{"mail": "ada"}, foreign],
        "chain": [{"kwargs": {"mail": "ada", "factor": 2}}],
        "plain": 1,
    }
    assert opened_if_possible({SEALED: "no sealed value"}) == {SEALED: "no sealed value"}


def test_a_key_ring_that_cannot_be_read_does_not_keep_another_from_opening(sealer: Sealer, tmp_path: Path) -> None:
    Sealer(tmp_path / "none.json")
    one = sealer.seal({"a": 1}, what="it")
    assert opened(one) == {"a": 1}
    foreign = {SEALED: one[SEALED].replace(one[SEALED].split(".")[1], "none-1")}
    assert "none-1" in shown(foreign)[SEALED]
