"""What a command changes is the same in this process, through the API of the project, and through one at a URL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest

from laneway.cli import base
from laneway.platform.access.token_form import is_well_formed
from laneway.platform.access.token_rights import TokenRights
from laneway.platform.db.queries.audit_log import AuditLogFilter
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
