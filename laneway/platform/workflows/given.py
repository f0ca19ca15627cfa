"""Checks what callers give to runs: the input, and the data of signals."""

from __future__ import annotations

import hashlib
from typing import Any

from laneway.platform.strict_json import strict_json
from laneway.platform.workflows.errors import InvalidInput, InvalidSignal
from laneway.platform.workflows.transitions import OUTPUT_LIMIT


def check_signal_data(name: str, data: dict[str, Any]) -> None:
    """Raise InvalidSignal for data that cannot be stored."""
    try:
        size = len(strict_json(data))
    except ValueError as error:
        raise InvalidSignal(name, f"its data is no JSON: {error}") from None
    if size > OUTPUT_LIMIT:
        raise InvalidSignal(name, f"its data has {size} characters of JSON, more than {OUTPUT_LIMIT}")


def fingerprint_of(name: str, input: dict[str, Any]) -> str:
    """A digest of the name and the input of a run. Raises InvalidInput for an input that is no JSON."""
    try:
        text = strict_json(input)
    except ValueError as error:
        raise InvalidInput(name, [f"it is no JSON: {error}"]) from None
    return hashlib.sha256(f"{name}\n{text}".encode()).hexdigest()
