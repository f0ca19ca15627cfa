"""The rules for the server of the queues: version, memory, persistence, rights, speed."""

from __future__ import annotations

from typing import Final

from laneway.doctor.findings import Check, Finding, Fine, Outcome, error, warning
from laneway.doctor.server_facts import ServerFacts
from laneway.engine.server_check import MINIMUM_VERSION

AREA: Final = "server"
WITH_WAITAOF: Final = (7, 2)
NEARLY_FULL: Final = 0.8
FILLING: Final = 0.6
"""Shares of `maxmemory`. Above the first one the platform accepts no tasks."""
SLOW_PING_MS: Final = 10.0
VERY_SLOW_PING_MS: Final = 100.0
SLOW_COMMAND_MS: Final = 50.0
DELAYED_PER_HOUR: Final = 10.0
MANY_CLIENTS: Final = 0.8
MIB: Final = 1_048_576


def version(facts: ServerFacts) -> Outcome:
    found = f"{facts.product} {facts.version}"
    numbers = tuple(int(part) for part in (facts.version or "0").split(".")[:2] if part.isdigit())
    if numbers < MINIMUM_VERSION:
        return error(
            f"The server is {found}.",
            why="The engine's scripts need Redis 6.2 or Valkey.",
            do="Upgrade the server to Valkey 8 or newer.",
        )
    if numbers < WITH_WAITAOF:
        return warning(
            f"The server is {found}.",
            why="It has no WAITAOF: a submission with durability `disk` is refused.",
            do="Upgrade the server to Valkey 8 or newer.",
        )
    return Fine(found)


def role(facts: ServerFacts) -> Outcome:
    if facts.role == "master":
        return Fine("a primary, which takes writes")
    return error(
        "The server is a replica.",
        why="It takes no writes: nothing is sent, started or acknowledged.",
        do="Name the primary in REDIS_URL (a plain Celery app: broker_url), or use a sentinel:// address.",
    )


def cluster(facts: ServerFacts) -> Outcome:
    if not facts.is_cluster:
        return Fine("not a cluster")
    return error(
        "The server is a node of a cluster.",
        why="A worker of several queues needs all of them on one node.",
        do="Use a server without cluster-enabled.",
    )


def writes(facts: ServerFacts) -> Outcome:
    if not facts.refuses_writes:
        return Fine("takes writes")
    return error(
        f"The server takes no writes: {facts.refuses_writes}",
        why="Accepted tasks wait in the database; without the platform a submission fails.",
        do="Look at the server's log, and remove what it says, such as a full disk.",
    )


def eviction(facts: ServerFacts) -> Outcome:
    if facts.eviction == "noeviction":
        return Fine("maxmemory-policy is noeviction")
    return error(
        f"maxmemory-policy is {facts.eviction}.",
        why="When its memory is full, the server deletes queued tasks without a word.",
        do="valkey-cli CONFIG SET maxmemory-policy noeviction, and the same in its configuration file.",
    )


def evicted(facts: ServerFacts) -> Outcome:
    if not facts.evicted_keys:
        return Fine("no key was evicted")
    return error(
        f"The server has evicted {facts.evicted_keys} keys since its start.",
        why="They may have been messages, leases or results.",
        do="laneway audit --repair (it sends missing tasks again from their rows).",
    )


def append_only(facts: ServerFacts) -> Outcome:
    if facts.append_only:
        return Fine("append-only file is on")
    kept = "since its last snapshot" if facts.snapshots else "with it"
    return error(
        "The server writes no append-only file.",
        why=f"When it ends, the queues, dead letters and results are lost {kept}.",
        do="valkey-cli CONFIG SET appendonly yes, and the same in its configuration file.",
    )


def append_fsync(facts: ServerFacts) -> Outcome | None:
    if not facts.append_only:
        return None
    if facts.append_fsync != "no":
        return Fine(f"appendfsync is {facts.append_fsync}")
    return warning(
        "appendfsync is no.",
        why="When the machine fails, the tasks of up to 30 seconds are lost.",
        do="valkey-cli CONFIG SET appendfsync everysec",
    )


def persistence(facts: ServerFacts) -> Outcome:
    if facts.append_only and facts.append_write == "err":
        return _cannot_store("The last write to the append-only file failed.")
    if facts.snapshots and facts.last_snapshot == "err":
        return _cannot_store("The last snapshot failed.")
    if facts.append_only and facts.append_rewrite == "err":
        return warning(
            "The last rewrite of the append-only file failed.",
            why="The file grows until the disk is full.",
            do="Free space on its disk (as much as the file has), then valkey-cli BGREWRITEAOF",
        )
    return Fine("no error of persistence")


def _cannot_store(found: str) -> Finding:
    return error(
        found,
        why="The server refuses writes until it can store them, and loses what it has not stored.",
        do="Free space on the disk of the server's `dir`, and look at its log.",
    )


def fsync_delays(facts: ServerFacts) -> Outcome | None:
    if not facts.append_only:
        return None
    hours = max((facts.uptime_seconds or 0) / 3600, 1)
    if (facts.delayed_fsyncs or 0) / hours <= DELAYED_PER_HOUR:
        return Fine("its disk keeps up")
    return warning(
        f"The disk was too slow for the append-only file {facts.delayed_fsyncs} times since the start.",
        why="All programs wait while the server waits for its disk.",
        do="Give the server a disk of its own, or a faster one.",
    )


def memory(facts: ServerFacts) -> Outcome:
    used, most = facts.used_memory or 0, facts.max_memory or 0
    if not most:
        return warning(
            f"maxmemory is not set; {_mib(used)} MiB are used.",
            why="A long queue takes all memory of the machine, and then the kernel ends the server.",
            do="valkey-cli CONFIG SET maxmemory to three quarters of the memory that the server may have.",
        )
    if facts.system_memory and most > facts.system_memory:
        return warning(
            f"maxmemory is {_mib(most)} MiB, and the machine has {_mib(facts.system_memory)} MiB.",
            why="The kernel ends the server before the limit protects it.",
            do="valkey-cli CONFIG SET maxmemory to three quarters of the memory of the machine.",
        )
    share = used / most
    text = f"{_mib(used)} of {_mib(most)} MiB used"
    if share > NEARLY_FULL:
        return error(
            f"The memory of the server is nearly full: {text}.",
            why="The platform accepts no tasks above 80 %; at 100 % the server refuses all writes.",
            do="Start more workers, or raise maxmemory (embedded server: BROKER_MAX_MEMORY).",
        )
    if share > FILLING:
        return warning(
            f"The memory of the server fills: {text}.",
            why="Above 80 % the platform accepts no tasks.",
            do="Look at the longest queue (laneway stats), and start more workers for it.",
        )
    return Fine(text)


def clients(facts: ServerFacts) -> Outcome:
    used, most = facts.clients or 0, facts.max_clients or 0
    if facts.rejected_clients:
        found = f"The server has refused {facts.rejected_clients} connections since its start"
    elif most and used / most > MANY_CLIENTS:
        found = f"{used} of {most} connections are used"
    else:
        return Fine(f"{used} of {most} connections")
    return warning(
        f"{found}.",
        why="A program without a connection can neither send nor fetch tasks.",
        do="valkey-cli CONFIG SET maxclients to a larger number.",
    )


def rights(facts: ServerFacts) -> Outcome:
    if not facts.denied:
        return Fine("the login may do what the engine needs")
    return error(
        f"The login may not use {', '.join(facts.denied or ())}.",
        why="The engine needs these commands for its keys.",
        do="laneway broker users (it gives each kind of process a user with its rights).",
    )


def login(facts: ServerFacts) -> Outcome:
    if not facts.is_open:
        return Fine("wants a login")
    rule = warning if facts.is_local else error
    return rule(
        "The server takes commands without a login.",
        why="Whoever reaches it can read, change and delete all tasks, and let workers run tasks.",
        do="Set a password (requirepass) and REDIS_PASSWORD, or use laneway broker users.",
    )


def encryption(facts: ServerFacts) -> Outcome:
    if facts.is_local or facts.uses_tls:
        return Fine("TLS" if facts.uses_tls else "on this machine")
    return warning(
        f"The connection to {facts.address} is not encrypted.",
        why="Others on the network can read payloads and the login.",
        do="Use a rediss:// address, with TLS at the server.",
    )


def latency(facts: ServerFacts) -> Outcome:
    trip = facts.latency_ms or 0
    if trip <= SLOW_PING_MS:
        return Fine(f"answers in {trip:.2g} ms")
    rule = error if trip > VERY_SLOW_PING_MS else warning
    return rule(
        f"The server answers in {trip:.0f} ms.",
        why="Each submission, fetch and ack waits for one answer or more.",
        do="Move programs and server nearer together; on one machine look at its load and its swapping.",
    )


def slow_commands(facts: ServerFacts) -> Outcome:
    slow = [each for each in facts.slow or () if each.ms >= SLOW_COMMAND_MS]
    if not slow:
        return Fine(f"no command of {SLOW_COMMAND_MS:.0f} ms or more in the last hour")
    names = ", ".join(sorted({each.command for each in slow}))
    return warning(
        f"{len(slow)} slow commands in the last hour, up to {max(each.ms for each in slow):.0f} ms: {names}.",
        why="The server does one thing at a time: everybody waits meanwhile.",
        do="valkey-cli SLOWLOG GET shows who sends them; KEYS and FLUSHALL are not for a server with queues.",
    )


def _mib(size: int) -> str:
    return f"{size / MIB:,.0f}"


CHECKS: Final = (
    Check("version", version, ("version",)),
    Check("role", role, ("role",)),
    Check("cluster", cluster, ("is_cluster",)),
    Check("writes", writes),
    Check("eviction policy", eviction, ("eviction",)),
    Check("evicted keys", evicted, ("evicted_keys",)),
    Check("append-only file", append_only, ("append_only",)),
    Check("appendfsync", append_fsync, ("append_fsync",)),
    Check("persistence", persistence, ("append_only",)),
    Check("fsync delays", fsync_delays),
    Check("memory", memory, ("used_memory", "max_memory")),
    Check("connections", clients, ("clients", "max_clients")),
    Check("rights", rights, ("denied",)),
    Check("login", login, ("is_open",)),
    Check("encryption", encryption),
    Check("latency", latency, ("latency_ms",)),
    Check("slow commands", slow_commands, ("slow",)),
)
