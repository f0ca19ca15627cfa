"""The calls that concern many tasks at once. Send them with `Client.send`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from laneway.client.call_parts import adapter, given
from laneway.client.calls import Call

if TYPE_CHECKING:
    from laneway.schemas.choices import ClearableState
    from laneway.schemas.history import ClearResponse


def clear_tasks(*, older_than: float, states: Sequence[ClearableState] = ()) -> Call[ClearResponse]:
    """`DELETE /tasks`. A repeat would count only what the first call left."""
    from laneway.schemas.history import ClearResponse

    params = given({"older_than": older_than, "state": tuple(states)})
    return Call("DELETE", "/tasks", adapter(ClearResponse), params=params, waiting=100, repeatable=False)
