"""What routes are given."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.exceptions import RequestValidationError

from laneway.platform.platform import Platform


def _services(request: Request) -> Platform:
    return request.app.state.services


def only_known_parameters(request: Request) -> None:
    """Refuse a query parameter that there is not: a filter with a typing error would select everything."""
    known = [str(field.alias) for field in request.scope["route"].dependant.query_params]
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        said = f"There is no such parameter; there are {', '.join(known)}"
        raise RequestValidationError(
            [{"type": "extra_forbidden", "loc": ("query", name), "msg": said} for name in unknown]
        )


OnlyKnown = Depends(only_known_parameters)
ServicesDep = Annotated[Platform, Depends(_services)]
NO_NULL = r"^[^\x00]+$"
"""What PostgreSQL can compare ids with."""
TaskId = Annotated[str, Path(min_length=1, max_length=155, pattern=NO_NULL, examples=["message:5f0c"])]
