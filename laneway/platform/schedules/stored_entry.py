"""An entry of Beat's schedule as Redis keeps it, signed with the key ring if there is one.

Whoever may write to Redis could have Beat send any task, with a valid signature. So the definition of an entry is
signed, too: the field `signature` of its hash. An entry with a missing or wrong signature is not sent. Those of
`beat_schedule` are then stored again from the application's code. When an entry was last sent is not signed.
"""

from __future__ import annotations

import json
from typing import Any, Final

from celery import Celery
from redbeat.decoder import RedBeatJSONEncoder
from redbeat.schedulers import RedBeatSchedulerEntry, ensure_conf, get_redis

from laneway.platform.logging import logger
from laneway.transport.signatures import NotSigned, Signer, signer_of

log = logger(__name__)

SIGNATURE: Final = "signature"
"""The field of an entry in Redis with the signature of its definition."""
_DEFINITION: Final = ("name", "task", "args", "kwargs", "options", "schedule", "enabled")


class StoredEntry(RedBeatSchedulerEntry):
    """An entry of the stored schedule. To add one by hand, use this class: RedBeat's own signs nothing."""

    @classmethod
    def from_key(cls, key: str, app: Celery | None = None) -> StoredEntry:
        """Read an entry. Raises KeyError when it does not exist, cannot be read, or is not signed by us."""
        try:
            _check(key, app)
            return super().from_key(key, app=app)
        except NotSigned as error:
            log.error(f"The schedule entry {key} is not signed by us and is not sent: {error}")
            raise KeyError(key) from error
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            if type(error) is not KeyError:
                log.error(f"The schedule entry {key} cannot be read: {error}")
            raise KeyError(key) from error

    def save(self) -> StoredEntry:
        """Store the entry with its signature, as RedBeat does it."""
        client: Any = get_redis(self.app)
        definition = json.dumps({name: getattr(self, name) for name in _DEFINITION}, cls=RedBeatJSONEncoder)
        signature = _signer(self.app).sign_text(_purpose(self.key), definition)
        with client.pipeline() as pipe:
            pipe.hset(self.key, "definition", definition)
            if signature is None:
                pipe.hdel(self.key, SIGNATURE)
            else:
                pipe.hset(self.key, SIGNATURE, signature)
            pipe.hsetnx(self.key, "meta", json.dumps({"last_run_at": self.last_run_at}, cls=RedBeatJSONEncoder))
            pipe.zadd(ensure_conf(self.app).schedule_key, {self.key: self.score})
            pipe.execute()
        return self


def _check(key: str, app: Any) -> None:
    """Raise NotSigned for an entry that is there and has no valid signature."""
    signer = _signer(app)
    if not signer.is_required:
        return
    ensure_conf(app)
    client: Any = get_redis(app)
    definition, signature = client.hmget(key, "definition", SIGNATURE)
    if definition:
        signer.check_text(_purpose(key), definition, signature)


def _signer(app: Any) -> Signer:
    return signer_of(app.conf.broker_transport_options or {})


def _purpose(key: str) -> str:
    return f"schedule {key}"
