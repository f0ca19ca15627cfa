"""The base of the schemas."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """A schema whose validator is built at its first use: a command uses few of them, and all take 0.2 s."""

    model_config = ConfigDict(defer_build=True)
