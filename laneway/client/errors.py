"""What a call to a platform can raise."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from laneway.schemas.problem import FieldProblem, Problem
from laneway.schemas.task import TaskDetails


class ClientError(Exception):
    """Base of all errors of the client."""


class Unreachable(ClientError):
    """No platform answered: no connection, or no answer in time.

    A submission may have been accepted. A repeat with the same id or idempotency key is safe.
    """


class UnexpectedResponse(ClientError):
    """Something answered that is not this API: another program, a proxy, or a platform of another version."""


class WaitTimeout(ClientError, TimeoutError):
    """The task was not over in time. It goes on."""

    def __init__(self, task: TaskDetails, seconds: float) -> None:
        super().__init__(f"Task {task.task_id} ({task.name}) is {task.status} after {seconds:g} s")
        self.task = task
        """The task as it was last seen."""


class ApiError(ClientError):
    """The platform refused a request, or could not serve it (Problem Details, RFC 9457)."""

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        unsaid = [field for field in problem.errors or () if field.problem not in problem.detail]
        fields = "".join(f"; {field.field}: {field.problem}" for field in unsaid)
        super().__init__(f"{problem.title} ({problem.status}): {problem.detail}{fields}")
        self.status = problem.status
        self.title = problem.title
        self.detail = problem.detail
        self.type = problem.type
        """The kind of the problem, such as `urn:laneway:problem:queue-full`."""
        self.request_id = problem.request_id
        """The logs of the platform contain the request under this id."""
        self.errors: list[FieldProblem] = problem.errors or []
        """For `InvalidRequest`: each invalid field."""
        self.retry_after = retry_after
        """Seconds after which the request may succeed; None if the platform did not say."""


class Unauthorized(ApiError):
    """401: the token is missing, wrong or expired."""


class Forbidden(ApiError):
    """403: the token does not allow this."""


class NotFound(ApiError):
    """404: nothing has this id, or no task has this name."""


class Conflict(ApiError):
    """409: the id is in use for something else, or the state does not allow it."""


class Gone(ApiError):
    """410: the task finished too long ago."""


class TooLarge(ApiError):
    """413: the request or a payload is too large."""


class InvalidRequest(ApiError):
    """422: the request is not valid; `errors` names each field."""


class TooManyRequests(ApiError):
    """429: the queue is full; nothing was queued."""


class ServerError(ApiError):
    """5xx: an error of the platform, or one of its servers is away."""


AWAY = (502, 503, 504)
"""The platform, or one of its servers, is away for now."""
_CLASSES: dict[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: TooLarge,
    422: InvalidRequest,
    429: TooManyRequests,
}


def api_error(status: int, body: Any, retry_after: str | None) -> ClientError:
    """Return the error of a response with a status of 400 or more."""
    try:
        problem = Problem.model_validate(body)
    except ValidationError:
        if status not in AWAY:
            return UnexpectedResponse(f"The answer has status {status} and is not of Laneway's API. Check the URL")
        detail = "A server in front of the platform answered, without the words of Laneway's API."
        problem = Problem(
            type="about:blank", title="The platform is away", status=status, detail=detail, instance="", errors=None
        )
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
    kind = ServerError if status >= 500 else _CLASSES.get(status, ApiError)
    return kind(problem, seconds)
