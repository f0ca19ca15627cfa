"""The rules for the platform's database: tables, room, writes, and what PostgreSQL needs beyond that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from laneway.doctor.findings import Check, Fine, Outcome, error, warning

AREA: Final = "database"
GIB: Final = 1_073_741_824
MIB: Final = 1_048_576
LITTLE_ROOM: Final = 2 * GIB
NO_ROOM: Final = GIB // 4
LONG_WAL: Final = GIB // 4
RETAINED_WAL: Final = 4 * GIB
SLOW_MS: Final = 100.0
VERY_SLOW_MS: Final = 1000.0
OLDEST_SQLITE: Final = (3, 35)
OLD_TRANSACTION: Final = 600.0
MANY_DEAD: Final = 0.3
LEAST_ROWS: Final = 100_000
OLD_XID: Final = 1_000_000_000
NETWORK_FILES: Final = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "glusterfs", "ceph")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """One version table. `found`: None without any tables."""

    version_table: str
    found: str | None
    needed: str
    is_newer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadRows:
    """A table of PostgreSQL with the rows that only a vacuum removes."""

    table: str
    dead: int
    live: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFacts:
    """The database. What it does not have, or does not show, is None."""

    address: str
    is_sqlite: bool
    version: str | None = None
    tables: Sequence[Tables] = ()
    write_ms: float | None = None
    write_error: str | None = None
    clock_offset: float | None = None
    size: int | None = None
    wal: int | None = None
    free: int | None = None
    """Bytes that are free on its disk."""
    file_system: str | None = None
    journal_mode: str | None = None
    max_connections: int | None = None
    used_connections: int | None = None
    wanted_connections: int | None = None
    """What all processes of the declared workers, Beat and one API use at the same time when they are busy."""
    settings: dict[str, str] | None = None
    """Settings of PostgreSQL."""
    is_standby: bool | None = None
    oldest_transaction: float | None = None
    dead_rows: Sequence[DeadRows] | None = None
    idle_slots: Sequence[str] | None = None
    xid_age: int | None = None


def version(facts: DatabaseFacts) -> Outcome:
    if not facts.is_sqlite:
        return Fine(f"PostgreSQL {facts.version}")
    numbers = tuple(int(part) for part in (facts.version or "0").split(".")[:2])
    if numbers < OLDEST_SQLITE:
        return error(
            f"SQLite is {facts.version}.",
            why="The queries need RETURNING, which SQLite has since 3.35.",
            do="Use a Python whose SQLite is newer, or PostgreSQL (DATABASE_URL).",
        )
    return Fine(f"SQLite {facts.version}")


def migrations(facts: DatabaseFacts) -> Outcome:
    older = [each for each in facts.tables if not each.is_newer and each.found != each.needed]
    if older:
        named = ", ".join(f"{each.version_table} is {each.found or 'missing'}, needed {each.needed}" for each in older)
        return error(
            f"The tables are older than this program: {named}.",
            why="Nothing can be accepted or recorded.",
            do="laneway prepare",
        )
    newer = [each for each in facts.tables if each.is_newer]
    if newer:
        named = ", ".join(f"{each.version_table} is {each.found}, known {each.needed}" for each in newer)
        return warning(
            f"The tables are newer than this program: {named}.",
            why="It works, as during a roll-out, but it is not the version that migrated them.",
            do="Deploy the newer version here, too.",
        )
    return Fine(f"tables are at {', '.join(each.needed for each in facts.tables)}")


def writes(facts: DatabaseFacts) -> Outcome:
    if facts.write_error:
        return error(
            f"The database takes no write: {facts.write_error}",
            why="Nothing is accepted (503).",
            do="See docs/when-a-dependency-is-down.md, The database.",
        )
    took = facts.write_ms or 0.0
    if took <= SLOW_MS:
        return Fine(f"a write takes {took:.2g} ms")
    rule = error if took > VERY_SLOW_MS else warning
    return rule(
        f"A write takes {took:.0f} ms.",
        why="Each submission waits for one.",
        do="Look for long transactions, a backup that runs, and the load of its disk.",
    )


def room(facts: DatabaseFacts) -> Outcome:
    free = facts.free or 0
    text = f"{free / GIB:.1f} GiB are free on the disk of the database"
    if free >= LITTLE_ROOM:
        return Fine(text)
    rule = error if free < NO_ROOM else warning
    return rule(
        f"Only {text}.",
        why="Without room nothing is accepted, recorded or finished.",
        do="Free space there, or shorten RETENTION_DAYS_TASKS and run laneway cleanup.",
    )


def size(facts: DatabaseFacts) -> Outcome:
    return Fine(f"{(facts.size or 0) / MIB:.0f} MiB")


def wal(facts: DatabaseFacts) -> Outcome:
    length = facts.wal or 0
    most = LONG_WAL if facts.is_sqlite else RETAINED_WAL
    if length <= most:
        return Fine(f"write-ahead log of {length / MIB:.0f} MiB")
    return warning(
        f"The write-ahead log has {length / MIB:.0f} MiB.",
        why="A reader or a replica that stands still holds it, and it grows until the disk is full.",
        do="End the program that keeps a transaction open (SQLite), or drop the idle replication slot (PostgreSQL).",
    )


def file_system(facts: DatabaseFacts) -> Outcome:
    if facts.file_system not in NETWORK_FILES:
        return Fine(f"on a local disk ({facts.file_system})")
    return error(
        f"The SQLite file is on {facts.file_system}.",
        why="Its write-ahead log needs memory that all programs share: over a network the file is damaged.",
        do="Set DATA_DIR to a local disk, or DATABASE_URL to PostgreSQL.",
    )


def journal_mode(facts: DatabaseFacts) -> Outcome:
    if facts.journal_mode == "wal":
        return Fine("journal mode is wal")
    return warning(
        f"SQLite's journal mode is {facts.journal_mode}.",
        why="Readers stop writers, and writers stop readers.",
        do="Let Laneway open the file with write access to its folder; it sets the mode itself.",
    )


def connections(facts: DatabaseFacts) -> Outcome:
    most, used = facts.max_connections or 0, facts.used_connections or 0
    if used > 0.9 * most:
        return error(
            f"{used} of {most} connections of PostgreSQL are used.",
            why="A process that gets none cannot accept, start or finish tasks.",
            do="Raise max_connections, or put PgBouncer before it (pool_mode = transaction is enough).",
        )
    wanted = facts.wanted_connections or 0
    if wanted > most:
        return warning(
            f"Busy processes want {wanted} connections, and max_connections is {most}.",
            why="Under load some of them get none.",
            do=f"max_connections = {wanted + 20}, or a smaller WORKER_CONCURRENCY.",
        )
    return Fine(f"{used} of {most} connections; busy processes want {wanted}")


def durability(facts: DatabaseFacts) -> Outcome:
    settings = facts.settings or {}
    off = [name for name in ("fsync", "synchronous_commit", "full_page_writes") if settings.get(name) == "off"]
    if not off:
        return Fine("commits are on the disk before they are confirmed")
    rule = warning if off == ["synchronous_commit"] else error
    return rule(
        f"{', '.join(off)} of PostgreSQL is off.",
        why="Accepted tasks are lost when its machine fails; without fsync or full pages the database is damaged then.",
        do=f"ALTER SYSTEM SET {off[0]} = on; SELECT pg_reload_conf();",
    )


def standby(facts: DatabaseFacts) -> Outcome:
    if not facts.is_standby and (facts.settings or {}).get("default_transaction_read_only") != "on":
        return Fine("a primary, which takes writes")
    return error(
        "The database is a standby, or read-only.",
        why="Nothing is accepted or recorded.",
        do="Name the primary in DATABASE_URL (several hosts: ?target_session_attrs=read-write).",
    )


def autovacuum(facts: DatabaseFacts) -> Outcome:
    if (facts.settings or {}).get("autovacuum") == "off":
        return error(
            "autovacuum is off.",
            why="Each state of a task leaves a dead row; the tables grow, and queries slow down without end.",
            do="ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf();",
        )
    many = [each for each in facts.dead_rows or () if each.dead > LEAST_ROWS and each.dead > MANY_DEAD * each.live]
    if many:
        named = ", ".join(f"{each.table} ({each.dead:,} dead, {each.live:,} live)" for each in many)
        return warning(
            f"Tables with many dead rows: {named}.",
            why="Autovacuum does not keep up, or an old transaction holds it back; queries slow down.",
            do=f"VACUUM (ANALYZE) {many[0].table}; then ALTER TABLE … SET (autovacuum_vacuum_scale_factor = 0.02);",
        )
    return Fine("autovacuum keeps up")


def old_transactions(facts: DatabaseFacts) -> Outcome:
    oldest = facts.oldest_transaction or 0.0
    if oldest <= OLD_TRANSACTION:
        return Fine("no old transaction")
    return warning(
        f"A transaction is open for {oldest / 60:.0f} minutes.",
        why="Meanwhile no dead row is removed, and it may hold locks.",
        do="SELECT pid, state, query FROM pg_stat_activity ORDER BY xact_start; then pg_terminate_backend(pid).",
    )


def slots(facts: DatabaseFacts) -> Outcome:
    if not facts.idle_slots:
        return Fine("no idle replication slot")
    return warning(
        f"Replication slots that nobody reads: {', '.join(facts.idle_slots)}.",
        why="The server keeps its write-ahead log for them until the disk is full.",
        do=f"SELECT pg_drop_replication_slot('{facts.idle_slots[0]}'), if its replica does not come back.",
    )


def wraparound(facts: DatabaseFacts) -> Outcome:
    age = facts.xid_age or 0
    if age <= OLD_XID:
        return Fine("transaction ids are far from their end")
    return error(
        f"The oldest transaction id is {age:,} transactions old.",
        why="At two billion PostgreSQL takes no writes any more.",
        do="VACUUM (FREEZE), after old transactions and idle replication slots are gone.",
    )


CHECKS: Final = (
    Check("version", version, ("version",)),
    Check("migrations", migrations),
    Check("writes", writes),
    Check("room", room, ("free",)),
    Check("size", size, ("size",)),
    Check("write-ahead log", wal, ("wal",)),
)
SQLITE_CHECKS: Final = (
    Check("file system", file_system, ("file_system",)),
    Check("journal mode", journal_mode, ("journal_mode",)),
)
POSTGRESQL_CHECKS: Final = (
    Check("connections", connections, ("max_connections", "used_connections")),
    Check("durability", durability, ("settings",)),
    Check("standby", standby, ("is_standby",)),
    Check("autovacuum", autovacuum, ("settings", "dead_rows")),
    Check("old transactions", old_transactions, ("oldest_transaction",)),
    Check("replication slots", slots, ("idle_slots",)),
    Check("transaction ids", wraparound, ("xid_age",)),
)


def checks_for(facts: DatabaseFacts) -> tuple[Check[DatabaseFacts], ...]:
    """The checks of this kind of database."""
    return (*CHECKS, *(SQLITE_CHECKS if facts.is_sqlite else POSTGRESQL_CHECKS))
