"""How pages write sizes."""

from __future__ import annotations

import pytest

from laneway.console.formats import size


@pytest.mark.parametrize(
    ("number_of_bytes", "text"),
    [(None, "–"), (0, "0.0 MiB"), (943_718, "0.9 MiB"), (327_155_712, "312 MiB"), (1_503_238_553, "1.4 GiB")],
)
def test_bytes_are_written_with_a_unit_that_a_person_can_read(number_of_bytes: int | None, text: str) -> None:
    assert size(number_of_bytes) == text
