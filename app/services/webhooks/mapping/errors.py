"""Errors of the mapping: of its file, and of an event that does not fit it."""

from __future__ import annotations

from laneway.platform.errors import ConfigError


class InvalidMapping(ConfigError):
    """The mapping of webhook events cannot be used."""

    title = "Invalid webhook mapping"

    file: str
    problems: list[str]

    def __str__(self) -> str:
        listed = "\n".join(f"  - {problem}" for problem in self.problems)
        return f"The webhook mapping {self.file} is not valid:\n{listed}\nMend these lines; no restart is needed."


class Misfit(ValueError):
    """An event does not have the shape that a rule expects; the text says what is wrong."""
