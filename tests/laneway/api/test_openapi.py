"""The payloads of tasks in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI

from laneway import task
from laneway.api import openapi
from laneway.api.routers import tasks
from laneway.platform.registry import registry
from laneway.schemas.payload import Payload


class Address(Payload):
    """Where a parcel goes."""

    street: str


class Parcel(Payload):
    """A parcel."""

    address: Address
    weight: float = 1


@pytest.fixture
def names() -> Iterator[list[str]]:
    """The names of the tasks that a test registers; they are forgotten at its end."""
    added: list[str] = []
    yield added
    for name in added:
        registry.remove(name)


def declare(names: list[str], name: str, payload: type[Payload]) -> None:
    """Register a task with this payload."""

    def work(payload: Any) -> None:
        del payload

    work.__annotations__["payload"] = payload
    task(queue="maintenance", name=name)(work)
    names.append(name)


def document_of(*routers: APIRouter) -> dict[str, Any]:
    """The document of an API with these routers."""
    app = FastAPI()
    for router in (tasks.router, *routers):
        app.include_router(router)
    openapi.install(app)
    assert app.openapi() is app.openapi()
    return app.openapi()


def test_a_submission_names_the_payload_of_its_task(names: list[str]) -> None:
    declare(names, "send-parcel", Parcel)

    schemas = document_of()["components"]["schemas"]

    assert schemas["TaskRequest"]["discriminator"]["mapping"]["send-parcel"] == "#/components/schemas/SubmitSendParcel"
    submission = schemas["SubmitSendParcel"]
    assert submission["properties"]["name"] == {"type": "string", "const": "send-parcel"}
    assert submission["properties"]["payload"] == {"$ref": "#/components/schemas/Parcel"}
    assert submission["required"] == ["name", "payload"]
    assert "delay" in submission["properties"]
    assert "type" not in submission["properties"]
    assert schemas["Parcel"]["properties"]["address"] == {"$ref": "#/components/schemas/Address"}
    assert schemas["TaskBatch"]["properties"]["tasks"]["items"] == {"$ref": "#/components/schemas/TaskRequest"}


def test_names_that_differ_in_their_marks_alone_get_schemas_of_their_own(names: list[str]) -> None:
    for name in ("send.parcel", "send_parcel"):
        declare(names, name, Parcel)

    mapping = document_of()["components"]["schemas"]["TaskRequest"]["discriminator"]["mapping"]

    assert len({mapping["send.parcel"], mapping["send_parcel"]}) == 2


def test_a_payload_with_the_name_of_another_schema_gets_a_name_of_its_own(names: list[str]) -> None:
    class TaskHandle(Payload):
        """A handle of a parcel, and no receipt of a task."""

        parcel: str

    declare(names, "lift", TaskHandle)

    schemas = document_of()["components"]["schemas"]

    assert schemas["SubmitLift"]["properties"]["payload"] == {"$ref": "#/components/schemas/TaskHandleOfTask"}
    assert "parcel" in schemas["TaskHandleOfTask"]["properties"]
    assert schemas["TaskHandleOfTask"]["title"] == "TaskHandleOfTask"
    assert "task_id" in schemas["TaskHandle"]["properties"]


def test_operations_are_named_after_their_functions() -> None:
    assert document_of()["paths"]["/tasks"]["post"]["operationId"] == "submit_task"


def test_functions_of_one_name_keep_ids_that_differ() -> None:
    router = APIRouter()

    @router.post("/mine")
    def submit_task() -> None:
        """Submit."""

    paths = document_of(router)["paths"]

    assert paths["/mine"]["post"]["operationId"] != paths["/tasks"]["post"]["operationId"]
