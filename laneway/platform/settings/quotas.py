"""Settings of quotas: what a token, a person and a queue may use in a minute, and the memory of the embedded broker."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from laneway.platform.settings.base import Group

Amount = Annotated[int, Field(ge=0, le=2**53)]
KINDS: Final = ("token:", "person:", "queue:")
MIB: Final = 1_048_576


class Quota(BaseModel):
    """What somebody or a queue may use in a minute. 0: no limit. None: the default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: Amount | None = None
    tasks: Amount | None = None
    bytes: Amount | None = None


class QuotaSettings(Group):
    """Quotas, and the memory of the embedded broker."""

    requests: Amount = Field(6_000, alias="QUOTA_REQUESTS_PER_MINUTE")
    """The requests that a token or a person may send to one API process in a minute. 0: no limit."""
    tasks: Amount = Field(60_000, alias="QUOTA_TASKS_PER_MINUTE")
    """The tasks that a token or a person may submit in a minute. 0: no limit."""
    bytes: Amount = Field(256 * MIB, alias="QUOTA_BYTES_PER_MINUTE")
    """The bytes of payloads that a token or a person may submit in a minute. 0: no limit."""
    own: dict[str, Quota] = Field({}, alias="QUOTAS")
    """Quotas of single tokens, people and queues, as JSON: `{"token:ci": {"tasks": 100}, "queue:mail": {"bytes":
    1048576}}`. A queue has no quota else.
    """
    broker_memory: int = Field(1024 * MIB, alias="BROKER_MAX_MEMORY", ge=32 * MIB)
    """The bytes of memory that the embedded Valkey may use. Above 80 % of it the API accepts no tasks (503)."""

    @model_validator(mode="after")
    def _known_kinds(self) -> QuotaSettings:
        for name, quota in self.own.items():
            if not name.startswith(KINDS) or name in KINDS:
                raise ValueError(f"QUOTAS: {name!r} must be token:NAME, person:NAME or queue:NAME")
            if name.startswith("queue:") and quota.requests is not None:
                raise ValueError(f"QUOTAS: {name!r} has no requests; a queue has a quota of tasks and bytes")
        return self

    def of_caller(self, kind: str, name: str) -> Quota:
        """The quota of a token or a person."""
        own = self.own.get(f"{kind}:{name}", Quota())
        return Quota(
            requests=self.requests if own.requests is None else own.requests,
            tasks=self.tasks if own.tasks is None else own.tasks,
            bytes=self.bytes if own.bytes is None else own.bytes,
        )

    def of_queue(self, queue: str) -> Quota | None:
        """The quota of a queue; None if it has none."""
        return self.own.get(f"queue:{queue}")
