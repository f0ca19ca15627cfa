"""Whole numbers in requests."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Strict


def _whole(value: object) -> object:
    """For JSON, 3.0 is an integer, too; some programs write all numbers so."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, Strict(), BeforeValidator(_whole)]
"""An integer. Texts and booleans are refused: they are mistakes."""
