"""Error responses: RFC 9457, Problem Details for HTTP APIs."""

from __future__ import annotations

from pydantic import Field

from laneway.schemas.model import Model


class FieldProblem(Model):
    """One invalid field of a request."""

    field: str = Field(examples=["body.text"])
    problem: str = Field(examples=["String should have at least 1 character"])


class Problem(Model):
    """An error."""

    type: str = Field(description="The kind of the problem", examples=["urn:laneway:problem:unknown-task"])
    title: str = Field(examples=["Unknown task"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["No task 'a1' is known here."])
    instance: str = Field(description="The path of the request")
    request_id: str | None = None
    errors: list[FieldProblem] | None = Field(None, description="For 422: each invalid field")
