"""The error of options that cannot work."""

from __future__ import annotations

from laneway.platform.errors import PermanentError


class InvalidOptions(PermanentError):
    """An option of a submission cannot work."""

    title = "Invalid options"

    task: str
    problems: list[str]

    def __str__(self) -> str:
        return f"The options for {self.task} are not valid: " + "; ".join(self.problems)
