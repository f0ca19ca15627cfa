"""The command line as people and scripts use it: its output, its exit codes, and never a traceback."""

from __future__ import annotations

import pytest
import redis

from laneway.platform import clock
from laneway.platform.operations import fresh_alerts
from laneway.schemas.task import TaskState
from tests.fixtures.held_database import held_by_another_program
from tests.fixtures.server_troubles import no_replicas
from tests.fixtures.shell import Shell

INPUT = '{"tasks_per_week": 20, "time_per_task_minutes": 5, "hourly_wage": 25, "automation_percent": 80}'
QUEUES = [
    "conversations",
    "webhooks",
    "crm",
    "documents",
    "workflows",
    "dev",
    "qa",
    "fix",
    "deploy",
    "analytics",
    "maintenance",
]


def test_the_help_names_every_command(laneway: Shell) -> None:
    ran = laneway.process("--help")

    assert (ran.code, ran.err) == (0, "")
    for command in (
        "up",
        "down",
        "demo",
        "ingest",
        "stats",
        "status",
        "active",
        "cancel",
        "retry",
        "cleanup",
        "dead",
        "search",
        "attempts",
        "watch",
        "audit",
        "flush",
        "worker",
    ):
        assert f" {command} " in ran.out


def test_stats_are_shown_as_tables_and_as_json(laneway: Shell) -> None:
    laneway.site.message("c-1")
    laneway.end(TaskState.DEAD_LETTER)
    advice = "Start a worker: `laneway worker --queue conversations`."
    alert = f"1 task waits in the queue 'conversations', which no live worker serves. {advice}"
    shown, data = laneway("stats"), laneway("stats", "--json")

    assert (shown.code, data.code) == (0, 0)
    assert [line.split()[0] for line in shown.out.splitlines()[1:12]] == QUEUES
    assert f"alert {alert} (since " in shown.out
    assert list(data.json()["queues"]) == QUEUES
    assert (data.json()["queues"]["conversations"]["pending"], data.json()["queues"]["conversations"]["dead"]) == (1, 1)
    no_beat, other = data.json()["alerts"]
    assert no_beat.startswith("no Beat runs, and these schedules were due and not sent: analysis-daily, ")
    assert other == alert


def test_stats_mark_a_paused_queue_and_show_tasks_that_are_not_sent_yet(laneway: Shell) -> None:
    assert laneway("queues", "pause", "crm").code == 0
    try:
        shown, data = laneway("stats"), laneway("stats", "--json").json()
    finally:
        laneway("queues", "resume", "crm")

    states = {line.split()[0]: line.split()[-1] for line in shown.out.splitlines()[1:12]}
    assert states == {queue: "paused" if queue == "crm" else "open" for queue in QUEUES}
    assert [queue for queue, figures in data["queues"].items() if figures["paused"]] == ["crm"]
    assert "accepted" in shown.out.splitlines()[0]


def test_stats_that_cannot_be_stored_are_shown_and_say_so(laneway: Shell) -> None:
    laneway("active")  # the first command stores the id of the installation
    laneway.site.message("c-1")
    ran = laneway.process("stats", file_blocks=0)
    refused = laneway.process("workflows", "start", "savings_assessment", "--input", INPUT, file_blocks=0)

    assert (ran.code, "conversations" in ran.out) == (1, True), ran.err
    assert "The alerts are those of the last sweep. The database cannot be used: writing" in ran.err
    assert (refused.code, refused.out) == (1, "")
    assert "a limit of its size is reached (a quota, `ulimit -f`)" in refused.err


def test_the_broker_of_another_installation_is_refused_before_anything_is_recorded(laneway: Shell) -> None:
    id = laneway.site.message("c-1")
    other = laneway.site.folder / "other"
    url = f"sqlite:///{other}.db"
    refused = laneway.process("stats", DATABASE_URL=url)
    adopted = laneway.process("prepare", "--adopt-broker", DATABASE_URL=url)
    taken = laneway.process("status", id, DATABASE_URL=url)
    ours = laneway("stats")
    laneway.process("prepare", "--adopt-broker")

    assert (refused.code, refused.out) == (1, "")
    assert "belongs to another installation" in refused.err and "REDIS_PORT" in refused.err
    assert adopted.code == 0
    assert taken.code in (0, 1) and "belongs to another" not in taken.err
    assert ours.code == 1 and "belongs to another installation" in ours.err
    assert laneway("stats").code == 0


def test_the_status_of_a_task_is_shown_as_a_table_and_as_json(laneway: Shell) -> None:
    id = laneway.end(TaskState.FAILED, error="[/bold] no such model :smile:", error_type="UpstreamRefused")
    shown, data = laneway("status", id), laneway("status", id, "--json")

    assert (shown.code, data.code) == (0, 0)
    assert id in shown.out and "[/bold] no such model :smile:" in shown.out
    assert (data.json()["task_id"], data.json()["status"]) == (id, "failed")


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("status", "--json"),
        ("cancel",),
        ("retry",),
        ("attempts",),
        ("why",),
        ("watch",),
        ("watch", "--json"),
        ("dead", "show"),
    ],
)
def test_an_unknown_id_is_reported_in_one_sentence_with_exit_code_1(laneway: Shell, words: tuple[str, ...]) -> None:
    ran = laneway(*words, "[/nobody]")

    assert (ran.code, ran.out, ran.err) == (1, "", "No task '[/nobody]' is known here.\n")


def test_active_lists_the_running_tasks(laneway: Shell) -> None:
    assert laneway("active").out == "None.\n"
    assert laneway("active", "--json").json() == []
    id = laneway.end(TaskState.PROCESSING, finished_at=None, started_at=clock.now(), worker="w@here")

    assert id in laneway("active").out
    assert [task["task_id"] for task in laneway("active", "--json").json()] == [id]


def test_a_waiting_task_is_cancelled_once(laneway: Shell) -> None:
    id = laneway.site.message("c-1")
    first, second = laneway.process("cancel", id), laneway.process("cancel", id)

    assert (first.code, first.out) == (0, "Cancelled: the task will not run.\n")
    assert (second.code, second.err) == (1, f"Task '{id}' is cancelled; it cannot be cancelled.\n")
    assert laneway.state(id) == TaskState.CANCELLED


def test_a_finished_task_is_retried_and_a_waiting_one_is_not(laneway: Shell) -> None:
    id = laneway.end(TaskState.FAILED)
    first, second = laneway("retry", id), laneway("retry", id)

    assert (first.code, first.out) == (0, f"Queued again: {id}\n")
    assert (second.code, second.err) == (1, f"Task '{id}' is pending; it cannot be retried.\n")


def test_dead_letters_are_listed_and_shown_completely(laneway: Shell) -> None:
    assert laneway("dead", "list").out == "None.\n"
    dead = laneway.end(TaskState.DEAD_LETTER, error="[/x] gave up", traceback="Trace of [/x] it")
    failed = laneway.end(TaskState.FAILED)

    assert dead in laneway("dead", "list").out, "an id is never cut"
    assert [task["task_id"] for task in laneway("dead", "list", "--json").json()] == [dead]
    assert [task["task_id"] for task in laneway("dead", "list", "--failed", "--json").json()] == [failed, dead]
    shown, data = laneway("dead", "show", dead), laneway("dead", "show", dead, "--json").json()
    assert "Trace of [/x] it" in shown.out and '"message": "Hello"' in shown.out
    assert (data["payload"]["message"], data["traceback"]) == ("Hello", "Trace of [/x] it")


def test_several_dead_letters_are_requeued_at_once(laneway: Shell) -> None:
    dead = [laneway.end(TaskState.DEAD_LETTER) for _ in range(3)]
    ran = laneway("dead", "requeue", *dead[:2])

    assert (ran.code, ran.out.splitlines()[-1]) == (0, "2 of 2 dead letters queued again.")
    assert [laneway.state(id) for id in dead] == ["pending", "pending", "dead_letter"]
    assert laneway("dead", "requeue", "--all").out.splitlines()[-1] == "1 of 1 dead letter queued again."
    assert laneway.state(dead[2]) == "pending"


def test_a_task_that_is_not_a_dead_letter_is_named_and_the_others_are_requeued(laneway: Shell) -> None:
    dead, done = laneway.end(TaskState.DEAD_LETTER), laneway.end(TaskState.COMPLETED)
    ran = laneway("dead", "requeue", dead, done, "[/nobody]")

    assert ran.code == 1
    assert ran.out.splitlines() == [
        "1 of 1 dead letter queued again.",
        f"{done}: Task '{done}' is completed: it is no dead letter.",
        "[/nobody]: No task '[/nobody]' is known here.",
    ]
    assert [laneway.state(dead), laneway.state(done)] == ["pending", "completed"]


@pytest.mark.parametrize(
    "words",
    [
        ("dead", "requeue"),
        ("dead", "requeue", "--all", "x"),
        ("frobnicate",),
        ("status",),
        ("stats", "--bogus"),
        ("dead", "list", "--limit", "0"),
        ("ingest",),
    ],
)
def test_a_command_line_with_errors_is_explained_with_exit_code_2(laneway: Shell, words: tuple[str, ...]) -> None:
    ran = laneway(*words)

    assert ran.code == 2
    assert ran.err.startswith("Usage: ") and "Traceback" not in ran.err


def test_documents_are_ingested_and_unreadable_ones_are_named(laneway: Shell) -> None:
    folder = laneway.site.folder / "[docs]"
    folder.mkdir()
    (folder / "a.md").write_text("# Returns\n\nA bicycle may be returned within 30 days.")
    (folder / "b.md").write_bytes(b"caf\xe9 \x81\x8d")
    (folder / "c [red] :smile:.md").write_text("# Shipping\n\nWe ship on Mondays.")
    (folder / "ignored.bin").write_bytes(b"\x00")
    first, again = laneway("ingest", str(folder)), laneway("ingest", str(folder / "a.md"))

    assert first.code == 1
    assert first.out.splitlines() == ["a.md: 1 passage", "c [red] :smile:.md: 1 passage"]
    assert first.err.startswith("Document 'b.md': its content is not text in UTF-8 (not utf-8: store it as UTF-8, or ")
    assert (again.code, again.out) == (0, "a.md: 1 passage (unchanged)\n")
    assert laneway("ingest", "/nowhere/x.md").code == 1


def test_every_invalid_setting_is_named_with_exit_code_2(laneway: Shell) -> None:
    ran = laneway.process(
        "stats",
        API_PORT="many",
        DATABASE_URL="mysql://user:pw-4721@localhost/x",
        OPENAI_BASE_URL="http://localhost",
        TASK_TIME_LIMIT="1",
        WEBHOOK_SECRETS='{"shop": "pw-4721"',
    )

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("The settings are not valid:\n")
    for named in ("API_PORT", "DATABASE_URL", "OPENAI_MODEL", "TASK_SOFT_TIME_LIMIT", "WEBHOOK_SECRETS"):
        assert named in ran.err
    assert "pw-4721" not in ran.err


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:pw-4721@127.0.0.1:1/x",
        "postgresql://user:pw-4721@127.0.0.1:port/x",
        "sqlite:////proc/nowhere/x.db",
        "sqlite:////etc/hostname",
    ],
)
def test_an_unusable_database_is_reported_without_a_traceback(laneway: Shell, url: str) -> None:
    ran = laneway.process("stats", DATABASE_URL=url)

    assert ran.code in (1, 2)
    assert ran.out == "" and ran.err.strip()
    assert "pw-4721" not in ran.err


def test_without_a_broker_reading_and_retrying_work_and_cancelling_is_refused(laneway: Shell) -> None:
    id, failed = laneway.site.message("c-1"), laneway.end(TaskState.FAILED)
    laneway.site.valkey.stop()
    try:
        read = [
            laneway(*words) for words in (("stats",), ("stats", "--json"), ("status", id), ("search",), ("active",))
        ]
        limits, finished = laneway("queues", "list"), laneway("status", failed)
        cancelled, retried = laneway("cancel", id), laneway("retry", failed)
    finally:
        laneway.site.valkey.start()
    for ran in read:
        assert ran.code == 1 and ran.out
        assert ran.err.startswith("This is what the database knows; newer events of tasks may be missing. The broker ")
        assert len(ran.err.splitlines()) == 1
    assert (limits.code, "conversations" in limits.out) == (1, True)
    assert "The broker cannot be asked" in limits.err
    assert (finished.code, finished.err) == (0, ""), "nothing changes about a finished task"
    assert (cancelled.code, cancelled.out) == (1, "")
    assert cancelled.err.splitlines()[-1].startswith("The broker cannot be reached")
    assert "Traceback" not in cancelled.err
    assert laneway.state(id) == "pending"
    assert (retried.code, laneway.state(failed)) == (0, "pending"), "the maintenance will publish it"


def test_a_broker_that_refuses_commands_is_named_in_one_sentence(laneway: Shell) -> None:
    id = laneway.site.message("c-1")
    with redis.Redis(port=laneway.site.valkey.port) as admin, no_replicas(admin, laneway.site.valkey.folder):
        cancelled = laneway("cancel", id)
    assert (cancelled.code, cancelled.out) == (1, "")
    assert cancelled.err.splitlines()[-1].startswith("The broker takes no commands now: NOREPLICAS")
    assert "Traceback" not in cancelled.err


def test_figures_are_shown_while_another_program_holds_the_database(
    laneway: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh_alerts, "SWEEP_WAITS", 0.1)
    id = laneway.site.message("c-1")
    with held_by_another_program(laneway.site.services.database):
        for words in (("stats",), ("status", id), ("search",)):
            shown = laneway(*words)
            assert (shown.code, id in shown.out or words == ("stats",)) == (1, True)
            assert "This is what the database knows" in shown.err
