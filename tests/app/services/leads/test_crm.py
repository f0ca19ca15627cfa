"""One suite for every CRM: the local one on both databases, and the REST connector against a real HTTP server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from app.core.settings import CrmSettings
from app.db.models import CrmRecord
from app.db.queries import leads as repository
from app.services.leads.crm import Crm, CrmLead, CrmMissing, LocalCrm, RestCrm
from laneway.platform import clock
from laneway.platform.db.session import Database
from tests.fixtures.crm_server import TOKEN, CrmServer
from tests.fixtures.platform import Environment

DATA: dict[str, Any] = {
    "lead_id": "lead-1",
    "version": 1,
    "source": "api",
    "name": "Ada Lovelace",
    "email": "ada@example.com",
    "phone": "+44 20 7946 0958",
    "company": None,
    "status": "new",
    "message": "A bicycle, please. 李雷 🚲",
    "fields": {"campaign": "spring", "newsletter": True},
    "details": {},
}


@dataclass(frozen=True)
class Case:
    """A CRM and access to its records."""

    crm: Crm
    held: Callable[[str], dict[str, Any] | None]
    count: Callable[[], int]


@pytest.fixture(params=["local-sqlite", "local-postgresql", "rest"])
def case(request: pytest.FixtureRequest, environment: Environment) -> Iterator[Case]:
    environment()
    if request.param != "rest":
        yield _local(request.getfixturevalue(f"{request.param.removeprefix('local-')}_database"))
        return
    with CrmServer() as server:
        settings = CrmSettings.model_validate({"CRM_BASE_URL": server.url, "CRM_TOKEN": TOKEN})
        yield Case(RestCrm(settings), server.records.get, lambda: len(server.records))


def _local(database: Database) -> Case:
    now = clock.now()
    with database.transaction() as session:
        for name in ("lead-1", "lead-2"):
            repository.add(
                session,
                lead_id=name,
                uid=name,
                source="api",
                source_id=name,
                fields={},
                version=1,
                created_at=now,
                updated_at=now,
                crm_state="pending",
                crm_version=0,
            )

    def held(id: str) -> dict[str, Any] | None:
        with database.reading() as session:
            record = session.get(CrmRecord, id)
            return record.data if record else None

    def count() -> int:
        with database.reading() as session:
            return session.query(CrmRecord).count()

    return Case(LocalCrm(database), held, count)


def lead(version: int = 1, **changes: Any) -> CrmLead:
    return CrmLead("lead-1", version, {**DATA, "version": version, **changes})


def known(data: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (data or {}).items() if value is not None}


def test_a_new_lead_is_stored_under_the_returned_id(case: Case) -> None:
    id = case.crm.create(lead(), key="k-1")

    assert isinstance(id, str) and 0 < len(id) <= 200
    assert known(case.held(id)) == known(DATA)


def test_the_same_creation_again_gives_the_same_record(case: Case) -> None:
    first, again = (case.crm.create(lead(), key="k-1") for _ in range(2))

    assert (first, case.count()) == (again, 1)


def test_a_creation_updates_an_older_record(sqlite_database: Database, environment: Environment) -> None:
    """A site that switched from the local CRM to another one and back."""
    environment()
    case = _local(sqlite_database)
    id = case.crm.create(lead(), key="k-1")

    assert case.crm.create(lead(3, status="won"), key="k-2") == id
    assert known(case.held(id))["status"] == "won"
    case.crm.create(lead(2, status="lost"), key="k-3")
    assert known(case.held(id))["status"] == "won"


def test_two_leads_are_two_records(case: Case) -> None:
    first = case.crm.create(lead(), key="k-1")
    second = case.crm.create(replace(lead(lead_id="lead-2"), uid="lead-2"), key="k-2")

    assert first != second
    assert known(case.held(second))["lead_id"] == "lead-2"


def test_an_update_changes_the_record_and_removes_removed_fields(case: Case) -> None:
    id = case.crm.create(lead(), key="k-1")
    case.crm.update(id, lead(2, status="won", phone=None, fields={"campaign": "summer"}), key="k-2")

    held = known(case.held(id))
    assert (held["status"], held["fields"], held["version"]) == ("won", {"campaign": "summer"}, 2)
    assert "phone" not in held
    assert case.count() == 1


def test_a_repeated_update_changes_nothing(case: Case) -> None:
    id = case.crm.create(lead(), key="k-1")
    for _ in range(2):
        case.crm.update(id, lead(2, status="won"), key="k-2")
    case.crm.update(id, lead(3, status="lost"), key="k-3")
    case.crm.update(id, lead(2, status="won"), key="k-2")

    assert known(case.held(id))["status"] == "lost"


@pytest.mark.parametrize("id", ["nothing", "../leads", "a/b?c#d", "ä ö", "%2e%2e"])
def test_an_update_of_a_missing_record_is_reported(case: Case, id: str) -> None:
    with pytest.raises(CrmMissing, match="has no record"):
        case.crm.update(id, lead(2), key="k-2")

    assert case.count() == 0


def test_after_a_loss_the_lead_can_be_created_again(case: Case) -> None:
    with pytest.raises(CrmMissing):
        case.crm.update("lost", lead(2), key="k-2")
    id = case.crm.create(lead(2), key="k-3")

    assert known(case.held(id))["version"] == 2
