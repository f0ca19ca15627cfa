"""A submission from outside: a request of the API, or of the command line.

1. Tasks that only the platform submits are refused, and so are ids with a colon: the platform makes those.
2. A caller may submit the tasks that its scopes name, in the queues and of the names to which it is bound.
3. Ids and all keys of a caller that is bound to a tenant stay within the tenant.

What is refused here leaves nothing behind.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from laneway.platform.access.bounds import tenant_prefix
from laneway.platform.access.caller import Caller, current_caller
from laneway.platform.access.errors import InternalTask, NotAllowed, ReservedId
from laneway.platform.access.scopes import Scope
from laneway.platform.registry import TaskSpec, registry
from laneway.platform.submission.acceptance import validated
from laneway.platform.submission.ordering_keys import key_of, ordering_key
from laneway.platform.submission.requests import submit_options
from laneway.platform.submission.submit_options import SubmitOptions
from laneway.platform.submission.transaction import Submission
from laneway.platform.webhooks.reserved_events import refuse_reserved_event
from laneway.schemas.choices import IfBusy
from laneway.schemas.history import TaskRequest
from laneway.schemas.payload import Payload

LONGEST_ID: Final = 155
"""Characters of a task's id."""
STOPPING: Final = frozenset({IfBusy.REPLACE, IfBusy.CANCEL_RUNNING, IfBusy.NEWEST})
"""What only a caller may ask for who may cancel tasks. The declaration of a task needs no scope."""


def outside_submission(request: TaskRequest) -> Submission:
    """Return what a request submits.

    Raises NotAllowed, UnknownTaskType, InternalTask, ReservedEvent, ReservedId, and InvalidPayload for a caller that is
    bound to a tenant.
    """
    caller, options = current_caller(), submit_options(request)
    names = registry.names_of(request.task)
    if not any(map(caller.may_submit, names)):
        raise NotAllowed(caller.name, f"it needs the scope {Scope.SUBMIT} or {Scope.SUBMIT}:{names[0]}")
    spec = registry.find(request.task)
    if registry.is_internal(spec.name):
        raise InternalTask(spec.name)
    refuse_reserved_event(spec.name, request.payload)
    _check_bounds(caller, spec)
    if options.if_busy in STOPPING and not caller.may(Scope.OPERATE):
        problem = f"if_busy={options.if_busy} may stop other tasks, which needs the scope {Scope.OPERATE}"
        raise NotAllowed(caller.name, problem)
    prefix = "" if caller.tenant is None else tenant_prefix(caller.tenant)
    if options.id is not None:
        _check_id(options.id, prefix)
    if not prefix:
        return Submission(spec, request.payload, options)
    payload = validated(spec, request.payload)
    return Submission(spec, payload, _within_tenant(prefix, spec, payload, options))


def _check_bounds(caller: Caller, spec: TaskSpec) -> None:
    if caller.names is not None and spec.name not in caller.names:
        raise NotAllowed(caller.name, f"its token is not for the task {spec.name!r}")
    if caller.queues is not None and spec.queue not in caller.queues:
        raise NotAllowed(caller.name, f"its token is not for the queue {spec.queue!r}")


def _check_id(id: str, prefix: str) -> None:
    own = id.removeprefix(prefix)
    if ":" in own:
        raise ReservedId(id, "only ids of the platform have a colon")
    if len(prefix) + len(own) > LONGEST_ID:
        raise ReservedId(id, f"it is longer than {LONGEST_ID - len(prefix)} characters")


def _within_tenant(prefix: str, spec: TaskSpec, payload: Payload, options: SubmitOptions) -> SubmitOptions:
    id = options.task_id()
    key = key_of(spec, payload) if options.key is None else options.key
    return replace(
        options,
        id=id if id.startswith(prefix) else prefix + id,
        idempotency_key=None,
        key=None if key is None else ordering_key(prefix + key),
        unique=None if options.unique is None else prefix + options.unique,
        debounce_key=None if options.debounce_key is None else ordering_key(prefix + options.debounce_key),
        throttle_key=None if options.throttle_key is None else ordering_key(prefix + options.throttle_key),
    )
