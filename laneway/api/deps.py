"""Dependencies and parameter types that routes share."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.exceptions import RequestValidationError

from laneway.platform.platform import Platform


async def _services(request: Request) -> Platform:
    return request.app.state.services


async def only_known_parameters(request: Request) -> None:
    """Refuse an unknown query parameter: a misspelt filter would select everything."""
    known = [str(field.alias) for field in request.scope["route"].dependant.query_params]
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        message = f"Unknown parameter; the parameters are {', '.join(known)}"
        raise RequestValidationError(
            [{"type": "extra_forbidden", "loc": ("query", name), "msg": message} for name in unknown]
        )


OnlyKnown = Depends(only_known_parameters)
ServicesDep = Annotated[Platform, Depends(_services)]
NO_NULL = r"^[^\x00]+$"
"""PostgreSQL cannot compare text that contains NUL."""
TaskId = Annotated[str, Path(min_length=1, max_length=155, pattern=NO_NULL, examples=["message:5f0c"])]
