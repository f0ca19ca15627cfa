"""What a command changes is the same in this process, through the API of the project, and through one at a URL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import pytest
from celery import Celery
from sqlalchemy import delete, update

from laneway.cli import base
from laneway.platform import clock
from laneway.platform.access.roles import Person, Role
from laneway.platform.access.token_form import is_well_formed
from laneway.platform.access.token_rights import TokenRights
from laneway.platform.db.models import OutboundDelivery, OutboundDestination, OutboundEndpoint, TaskRun
from laneway.platform.db.queries.audit_log import AuditLogFilter
from laneway.schemas.task import TaskState
from tests.fixtures.http_peer import HttpPeer, HttpReply
from tests.fixtures.receiving import DeliveryHarness
from tests.fixtures.shell import Ran, Shell
from tests.fixtures.site import Site


@dataclass(frozen=True)
class Way:
    """One of the ways to the platform."""

    run: Callable[..., Ran]
    shell: Shell
    caller: tuple[str, str]
    """Kind and name of who acts, as the audit log has it."""

    def __call__(self, *words: str) -> Ran:
        return self.run(*words)

    def entries(self, action: str, object: str) -> int:
        """How many entries of the audit log say that this caller did it."""
        which = AuditLogFilter(action=action, object_id=object)
        found = self.shell.site.services.audit_log.page(which, limit=100).entries
        return sum((entry.caller_kind, entry.caller) == self.caller for entry in found)


@pytest.fixture(scope="module")
def token(installed: Site) -> str:
    """The token of an administrator."""
    rights = TokenRights(scopes=frozenset({"admin"}))
    return installed.services.tokens.create("root", rights, expires=None).token


@pytest.fixture(scope="module")
def url(installed: Site) -> Iterator[str]:
    """The address of the installation's API, which asks for tokens."""
    node = installed.api(AUTHENTICATION="on", SESSION_SECRET="s" * 32)
    yield f"http://127.0.0.1:{installed.api_port}"
    node.kill()


@pytest.fixture(params=["direct", "own", "url"])
def way(request: pytest.FixtureRequest, laneway: Shell, url: str, token: str, monkeypatch: pytest.MonkeyPatch) -> Way:
    """Runs commands. Those that ask an API fail if they use the platform themselves."""
    if request.param == "direct":
        return Way(lambda *words: laneway("--direct", *words), laneway, ("command", user()))
    monkeypatch.setattr(base, "read_settings", lambda: pytest.fail("the command uses the platform itself"))
    if request.param == "own":
        return Way(laneway, laneway, ("command", user()))
    return Way(lambda *words: laneway("--url", url, "--token", token, *words), laneway, ("token", "root"))


def user() -> str:
    """The user of this machine."""
    from laneway.platform.access.machine_user import machine_user

    return machine_user().name


def test_a_token_is_printed_alone_once(way: Way) -> None:
    name = f"t-{uuid4().hex[:8]}"
    made = way("tokens", "create", name, "--scope", "leads", "--queue", "crm", "--expires", "30d")
    rotated = way("tokens", "rotate", name, "--overlap", "10m", "--json")
    listed = next(each for each in way("tokens", "list", "--json").json() if each["name"] == name)
    revoked = way("tokens", "revoke", name)

    assert (made.code, is_well_formed(made.out.strip())) == (0, True), made.err
    assert "cannot be shown again" in made.err and made.out.strip() not in made.err
    assert (rotated.code, is_well_formed(rotated.json()["token"])) == (0, True), rotated.err
    assert (listed["scopes"], listed["queues"], listed["created_by"]) == (["leads"], ["crm"], way.caller[1])
    assert (revoked.code, revoked.out) == (0, f"Revoked: {name}\n")
    assert [way.entries(f"token.{action}", name) for action in ("create", "rotate", "revoke")] == [1, 1, 1]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("create root --scope leads", "There is a token 'root' already"),
        ("create x --scope lead:s", "there is no scope"),
        ("create x --scope leads --expires 0", "must expire within 3660 days, or never"),
        ("create x --scope leads --expires 20y", "is no duration"),
        ("create x --scope leads --task nothing", "no task is registered as"),
        ("create Any\u00fc --scope leads", "a name has up to 64"),
        ("rotate nobody", "There is no token 'nobody'"),
        ("rotate root --expires 0", "must expire within 3660 days, or never"),
        ("revoke nobody", "There is no token 'nobody'"),
    ],
)
def test_a_token_that_cannot_be_is_refused(way: Way, words: str, sentence: str) -> None:
    before = way("tokens", "list", "--json").json()
    ran = way("tokens", *words.split())

    assert (ran.code != 0, ran.out, sentence in ran.err) == (True, "", True), ran.err
    after = way("tokens", "list", "--json").json()
    assert [each | {"used_at": None} for each in after] == [each | {"used_at": None} for each in before]


def test_sessions_are_ended_for_one_person(way: Way) -> None:
    name = f"{uuid4().hex[:8]}@example.com"
    for each in (name, name, "bob"):
        way.shell.site.services.people.logins.begin(Person(each), Role.VIEWER)

    assert [each["person"] for each in way("sessions", "list", "--json").json()].count(name) == 2
    assert way("sessions", "end", name).out == f"{name}: 2 sessions ended.\n"
    again = way("sessions", "end", name)
    assert (again.code, f"{name!r} has no session; logged in: " in again.err, "bob" in again.err) == (1, True, True)
    assert way("sessions", "end", "").code == way("sessions", "end", "x" * 256).code == 2
    assert way.entries("person.end_sessions", name) == 2


def test_the_audit_log_is_listed_and_checked(way: Way) -> None:
    way("queues", "pause", "crm")
    paused, *_ = way("audit-log", "list", "--object", "crm", "--since", "1m", "--json").json()
    checked = way("audit-log", "verify")
    entries, anchor = checked.out.split()[1], checked.out.split()[-1]
    way("queues", "resume", "crm")

    assert (paused["action"], paused["caller_kind"], paused["caller"]) == ("queue.pause", *way.caller)
    assert len(way("audit-log", "list", "--limit", "3", "--json").json()) == 3
    assert (checked.code, checked.out.startswith(f"All {entries} entries are")) == (0, True), checked.err
    assert way("audit-log", "verify", "--expect", anchor).code == 0
    wrong = way("audit-log", "verify", "--expect", f"{entries}:{'0' * 64}", "--json")
    assert (wrong.code, wrong.json()["damage"], wrong.json()["entry"]) == (1, "changed", int(entries))
    assert way("audit-log", "verify", "--expect", "17").code == 2


def test_a_destination_is_registered_rotated_and_removed(way: Way) -> None:
    with way.shell.site.services.database.transaction() as session:
        session.execute(delete(OutboundDestination))
    made = way("callbacks", "register", "shop", "https://shop.example/hooks/")
    rotated = way("callbacks", "rotate", "shop", "--overlap", "60", "--json").json()
    listed = way("callbacks", "destinations").out

    assert made.out.splitlines()[-1].startswith("whsec_") and rotated["secret"] not in made.out
    assert "https://shop.example/hooks/" in listed and "whsec_" not in listed
    assert way("callbacks", "reencrypt").out == "Destinations encrypted again: 1\n"
    assert way("callbacks", "remove", "shop").out == "Nothing is sent to shop any more.\n"
    assert way("callbacks", "rotate", "shop").err == "No destination 'shop' is known here.\n"
    assert way("callbacks", "register", "a b", "https://shop.example/").code == 2
    assert "must have no query" in way("callbacks", "register", "shop", "https://shop.example/?a=1").err
    assert way("callbacks", "destinations").out == "None.\n"
    actions = ("register", "rotate", "remove")
    assert all(way.entries(f"destination.{action}", "shop") for action in actions)


def test_deliveries_are_shown_and_replayed(way: Way, http_peer: HttpPeer) -> None:
    database = way.shell.site.services.database
    with database.transaction() as session:
        for table in (OutboundDelivery, OutboundEndpoint):
            session.execute(delete(table))
    desk, ids = DeliveryHarness(database), [f"d-{uuid4().hex[:8]}" for _ in range(4)]
    http_peer.always = HttpReply(500, {}, "[/broken]")
    for id in ids:
        desk.failure(http_peer.url, id=id, attempt=8)
    endpoint = desk.endpoint().id

    assert {each["delivery_id"] for each in way("callbacks", "list", "--endpoint", endpoint, "--json").json()} == {*ids}
    assert way("callbacks", "list", "--state", "completed").out == "None.\n"
    assert "[/broken]" in way("callbacks", "show", ids[0]).out
    one = way("callbacks", "replay", ids[0], "none", ids[1])
    assert (one.code, one.out) == (1, "2 of 3 deliveries queued again.\n") and "'none'" in one.err
    plan = way("callbacks", "replay", "--endpoint", endpoint, "--dry-run")
    assert (plan.code, plan.out) == (0, f"2 deliveries would be sent again.\n{ids[2]}\n{ids[3]}\n")
    assert (
        way("callbacks", "replay", "--endpoint", endpoint, "--since", "1h").out == "2 of 2 deliveries queued again.\n"
    )
    assert way("callbacks", "disable", endpoint).out == f"{http_peer.url}/ is disabled.\n"
    assert way("callbacks", "endpoints", "--state", "disabled", "--json").json()[0]["endpoint_id"] == endpoint
    assert way("callbacks", "enable", endpoint, "--json").json()["state"] == "enabled"
    assert way("callbacks", "enable", "none").code == 1
    assert [way.shell.state(id) for id in ids] == ["pending"] * 4
    assert way.entries("receiver.disable", endpoint) == way.entries("receiver.enable", endpoint) == 1


def test_old_tasks_are_cleared(way: Way) -> None:
    long_ago = clock.now() - timedelta(hours=2)
    old, failed = (way.shell.end(state, finished_at=long_ago) for state in (TaskState.COMPLETED, TaskState.FAILED))

    assert way("clear", "--older-than", "3h", "--yes").out == "Deleted 0 tasks.\n"
    assert way("clear", "--older-than", "1h", "--yes").out == "Deleted 1 task.\n"
    assert way("status", old).code == 1 and way("status", failed).code == 0
    both = ("--state", "failed", "--state", "cancelled")
    assert way("clear", "--older-than", "1h", *both, "--yes", "--json").json() == {"deleted": 1}
    assert way.entries("history.clear", "tasks") >= 3


FLUSH = ("queue.flush", "conversations")


def test_a_queue_is_flushed(way: Way) -> None:
    ids, before = [way.shell.site.message(f"c-{number}") for number in range(2)], way.entries(*FLUSH)
    refused = way("flush", "conversations")
    assert (refused.code, "'conversations' (2 now)?" in refused.out) == (1, True), "nobody confirmed it"
    assert way("flush", "conversations", "--yes").out == "Cancelled 2 tasks.\n"
    assert [way.shell.state(id) for id in ids] == ["cancelled"] * 2
    assert way("flush", "conversations", "--yes", "--json").json() == {"queue": "conversations", "cancelled": 0}
    unknown = way("flush", "nowhere", "--yes")
    assert (unknown.code, unknown.err.startswith("There is no queue 'nowhere'")) == (1, True)
    assert (way.entries(*FLUSH) - before, way.entries("queue.flush", "nowhere")) == (2, 0)


def test_tasks_of_other_programs_are_taken_in(way: Way) -> None:
    name = f"maint-{uuid4().hex[:8]}"
    with (
        Celery("shop", broker=way.shell.site.settings.redis.broker_url, set_as_current=False) as stranger,
        stranger.connection_for_write() as connection,
    ):
        stranger.send_task("cleanup_old_data_task", queue=name, connection=connection)

    assert way("queues", "take-in", name).out == "1 task taken in.\n"
    assert way("queues", "take-in", name, "--json").json() == {"taken": 0}
    assert way.entries("queue.take_in", name) == 2


def test_everything_is_audited_and_repaired(way: Way) -> None:
    id = way.shell.site.message("c-1")
    way.shell.platform.lose("conversations")
    with way.shell.site.services.database.transaction() as session:
        session.execute(update(TaskRun).values(published_at=clock.now() - timedelta(minutes=1)))
    named, repaired, after = way("audit", "--json"), way("audit", "--repair"), way("audit")

    assert (named.code, [each["task_id"] for each in named.json()["unaccounted"]]) == (1, [id])
    assert (repaired.code, repaired.out.splitlines()[-1]) == (0, "unaccounted: 0 (1 repaired)")
    assert (after.code, after.out.splitlines()[-1]) == (0, "unaccounted: 0")
    assert way.entries("history.repair", "all") >= 1


def test_old_data_is_cleaned_up(way: Way) -> None:
    old = way.shell.end(TaskState.COMPLETED, finished_at=clock.now() - timedelta(hours=3))
    young = way.shell.end(TaskState.COMPLETED, finished_at=clock.now() - timedelta(hours=1))

    assert way("cleanup", "--older-than", "2h").out.splitlines()[0] == "tasks: 1"
    assert way("cleanup", "--hours", "2", "--json").json()["tasks"] == 0
    assert (way("status", old).code, way("status", young).code) == (1, 0)
    assert way("cleanup", "--hours", "1", "--older-than", "1h").code == way("cleanup", "--hours", "1e300").code == 2
    assert way.entries("history.cleanup", "all") >= 2
