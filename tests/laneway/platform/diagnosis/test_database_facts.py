"""What is learned of real databases, good ones and some that are set up wrongly."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from laneway.doctor.database_rules import checks_for
from laneway.platform.broker import Broker
from laneway.platform.db.migration_history import PLATFORM_HISTORY
from laneway.platform.db.session import Database
from laneway.platform.diagnosis.database_facts import NoFile, collect_database, file_system_of
from laneway.platform.operations.installation import Installation
from tests.fixtures.judging import findings

BY_SPEED = ("room", "writes")
"""What depends on this machine."""
NO_BROKER: Broker = None  # pyright: ignore[reportAssignmentType] - nobody asks for it


@pytest.fixture
def database(new_database: Database) -> Database:
    """Tests here change more than rows."""
    return new_database


def found(database: Database) -> dict[str, str]:
    """Check → the severity of its finding, apart from the room on the disk of this machine."""
    installation = Installation(database, NO_BROKER, broker_address="")
    facts = collect_database(database, [PLATFORM_HISTORY], installation=installation, worker_slots=[2, 4])
    return {name: severity for name, severity in findings(checks_for(facts), facts).items() if name not in BY_SPEED}


def test_a_database_of_laneway_has_no_finding(sqlite_database: Database) -> None:
    assert found(sqlite_database) == {}


def test_a_server_for_tests_does_not_wait_for_its_disk(postgresql_database: Database) -> None:
    assert found(postgresql_database) == {"durability": "error"}


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/none.db")

    with pytest.raises(NoFile, match="laneway prepare"):
        found(database)

    assert not (tmp_path / "none.db").exists()


def test_a_file_without_tables_and_another_journal_mode_are_seen(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/empty.db")
    with database.reading() as session:
        session.execute(text("SELECT 1"))

    assert found(database) == {"migrations": "error"}
    database.close()


def test_older_and_newer_tables_are_told_apart(sqlite_database: Database) -> None:
    for revision, severity in (("0001", "error"), ("9999", "warning")):
        with sqlite_database.transaction() as session:
            session.execute(text("UPDATE laneway_version SET version_num = :found"), {"found": revision})
        assert found(sqlite_database) == {"migrations": severity}


def test_postgresql_says_what_hurts(postgresql_database: Database, postgresql_url: str) -> None:
    name = postgresql_database.url.database
    with postgresql_database.transaction() as session:
        session.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
    postgresql_database.close()  # new connections have the setting

    facts = collect_database(
        postgresql_database,
        [PLATFORM_HISTORY],
        installation=Installation(postgresql_database, NO_BROKER, broker_address=""),
        worker_slots=[1000],
    )

    seen = findings(checks_for(facts), facts)
    assert (seen["connections"], seen["standby"], seen["writes"]) == ("warning", "error", "error")
    assert abs(facts.clock_offset or 9) < 1, "the same machine"
    assert (facts.size or 0) > 1_000_000
    del postgresql_url


def test_a_login_without_rights_leaves_checks_out(postgresql_database: Database, postgresql_url: str) -> None:
    name = postgresql_database.url.database
    with psycopg.connect(postgresql_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS doctor_guest")
        connection.execute("CREATE ROLE doctor_guest LOGIN")
        connection.execute(f'GRANT CONNECT ON DATABASE "{name}" TO doctor_guest')  # pyright: ignore[reportArgumentType]
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO doctor_guest")
    guest = Database(postgresql_url.replace("postgres@", "doctor_guest@"))
    try:
        facts = collect_database(
            guest,
            [PLATFORM_HISTORY],
            installation=Installation(postgresql_database, NO_BROKER, broker_address=""),
            worker_slots=[1],
        )
    finally:
        guest.close()
        with psycopg.connect(postgresql_url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("DROP OWNED BY doctor_guest")
            connection.execute("DROP ROLE doctor_guest")

    assert facts.wal is None, "pg_ls_waldir is for monitors"
    assert facts.max_connections is not None


def test_the_file_system_of_a_path_is_that_of_its_nearest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "22 21 0:5 / /srv rw shared:1 - xfs /dev/sdb1 rw\n"
        "23 22 0:6 / /srv/share rw - nfs4 host:/x rw\n"
    )

    assert file_system_of(Path("/srv/share/data/laneway.db"), str(mounts)) == "nfs4"
    assert file_system_of(Path("/srv/laneway.db"), str(mounts)) == "xfs"
    assert file_system_of(Path("/home/laneway.db"), str(mounts)) == "ext4"
    assert file_system_of(Path("/x"), str(tmp_path / "none")) is None
