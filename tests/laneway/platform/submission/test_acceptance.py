"""What a row of a submission holds, and what no payload may bring."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ConfigDict

from laneway.platform import sealing
from laneway.platform.errors import InvalidPayload
from laneway.platform.history.adoption import fingerprint
from laneway.platform.payload_store import STORED
from laneway.platform.registry import TaskSpec
from laneway.platform.sealing import SEALED, keyed_digests
from laneway.platform.settings import TaskSettings
from laneway.platform.submission.acceptance import SubmitOptions, row_of
from laneway.schemas.payload import Payload
from laneway.transport.key_ring import create_ring


class AnyFields(Payload):
    """A payload that takes fields of any name."""

    model_config = ConfigDict(extra="allow")


SPEC = TaskSpec(name="note", own_queue="celery", payload=AnyFields, encrypted=True)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskSettings]:
    """The settings of a process with a key ring."""
    create_ring(tmp_path / "keys.json")
    settings = TaskSettings()  # pyright: ignore[reportCallIssue] - its fields come from the environment
    before = sealing._process.sealer  # pyright: ignore[reportPrivateUsage]
    settings.seal_with(tmp_path / "keys.json")
    yield settings
    sealing.use_for_all(before)


def row(settings: TaskSettings, **payload: Any) -> dict[str, Any]:
    return row_of(SPEC, AnyFields(**payload), SubmitOptions(), settings)


def test_the_fingerprint_of_an_encrypted_payload_tells_only_somebody_with_the_key(settings: TaskSettings) -> None:
    found = row(settings, text="guessed")["fingerprint"]
    guess = fingerprint(SPEC.name, {"text": "guessed"})
    assert found != guess
    assert found in keyed_digests(guess)


SEALED_VALUE = {SEALED: "v1.abc.QUJD"}


@pytest.mark.parametrize(
    "payload",
    [
        {STORED: f"v1.5.{'0' * 40}/{'0' * 64}-{'0' * 16}"},
        {STORED: "anything", "text": "a"},
        {SEALED: "anything"},
        SEALED_VALUE,
        {"before": SEALED_VALUE},
        {"before": [1, SEALED_VALUE]},
    ],
)
def test_a_payload_brings_no_reference_and_no_encrypted_value(settings: TaskSettings, payload: dict[str, Any]) -> None:
    with pytest.raises(InvalidPayload, match=r"no payload may have a field \$sealed or \$stored"):
        row(settings, **payload)
