"""The base of the schemas."""

from __future__ import annotations

from pydantic import BaseModel


class Model(BaseModel):
    """A schema."""


def build_at_first_use() -> None:
    """Let the schemas that are imported from now on build their validators when they are used first.

    A command uses a few of them, and to build all takes a tenth of a second. The API builds all of them at its start.
    """
    Model.model_config["defer_build"] = True
