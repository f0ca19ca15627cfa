"""`laneway sessions`."""

from __future__ import annotations

from laneway.platform.access.roles import Person, Role
from tests.fixtures.shell import Shell


def test_sessions_are_listed_and_ended_for_one_person(laneway: Shell) -> None:
    logins = laneway.site.services.people.logins
    for name in ("cli-ada@example.com", "cli-ada@example.com", "cli-bob"):
        logins.begin(Person(name), Role.VIEWER)

    listed = laneway("sessions", "list", "--json").json()
    people = [each["person"] for each in listed if each["person"].startswith("cli-")]
    assert people == ["cli-bob", "cli-ada@example.com", "cli-ada@example.com"]
    assert any(line.split()[:2] == ["cli-bob", "viewer"] for line in laneway("sessions", "list").out.splitlines())

    assert laneway("sessions", "end", "cli-ada@example.com").out == "cli-ada@example.com: 2 sessions ended.\n"
    again = laneway("sessions", "end", "cli-ada@example.com")
    assert (again.code, "'cli-ada@example.com' has no session" in again.err, "cli-bob" in again.err) == (1, True, True)
    assert laneway("sessions", "end", "cli-bob", "--json").json() == {"person": "cli-bob", "ended": 1}
