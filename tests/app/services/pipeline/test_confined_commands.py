"""What a hostile command of the pipeline reaches, and whom it runs as."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.core.settings import PipelineSettings, load_settings
from app.schemas.pipeline import Step
from app.services.pipeline.process import CommandRefused
from laneway.platform.errors import ConfigError
from laneway.platform.settings import ChildSettings
from tests.fixtures.hostile_child import Surroundings, successes, surroundings
from tests.fixtures.pipeline import Workshop
from tests.fixtures.platform import Environment

NOBODY = pwd.getpwnam("nobody").pw_uid
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def around(tmp_path: Path) -> Iterator[Surroundings]:
    """What there is to reach."""
    with surroundings(tmp_path) as made:
        yield made


@pytest.fixture
def workshop(around: Surroundings, tmp_path: Path) -> Workshop:
    """A project, inside the data folder as in development."""
    return Workshop(around.secret.parent / "pipeline")


def test_a_command_reaches_neither_the_network_nor_the_workers_secrets_nor_the_data(
    workshop: Workshop, around: Surroundings
) -> None:
    processes = "import os; print(json.dumps([name for name in os.listdir('/proc') if name.isdigit()]))"

    found, seen = (json.loads(line) for line in workshop.run(around.program + processes).output.splitlines())

    assert successes(found) == set()
    assert found["fork"] == "done" and not found["new privileges"]
    assert str(os.getpid()) not in seen and len(seen) <= 3
    assert found["user"] == (os.geteuid() or NOBODY)


def test_a_step_may_use_the_network_if_it_is_named(workshop: Workshop, around: Surroundings) -> None:
    allowed = workshop.run(around.program, step=Step.DEPLOY, PIPELINE_NETWORK="fix, deploy").output
    denied = workshop.run(around.program, step=Step.DEV, PIPELINE_NETWORK="fix, deploy").output

    assert successes(json.loads(allowed)) == {"connect"}
    assert successes(json.loads(denied)) == set()


def test_a_command_may_talk_to_itself_over_loopback(workshop: Workshop) -> None:
    code = """
import socket
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
print("heard")
"""
    assert workshop.run(code).output == "heard\n"


def test_temporary_files_are_the_commands_own_and_are_deleted(workshop: Workshop) -> None:
    code = "import os, tempfile; print(tempfile.mkstemp()[1]); print(os.environ['TMPDIR'], os.listdir('/tmp'))"

    path, rest = workshop.run(code).output.splitlines()

    assert path.startswith(rest.split()[0])
    assert not Path(rest.split()[0]).exists()


def test_folders_are_opened_by_name(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir(mode=0o755)
    (tmp_path / "tools" / "version").write_text("3")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    code = f"print(open('{tmp_path}/tools/version').read()); open('{tmp_path}/cache/new', 'w').write('kept')"
    opened = {"PIPELINE_READABLE": str(tmp_path / "tools"), "PIPELINE_WRITABLE": str(tmp_path / "cache")}

    assert workshop.run(code, **opened).output == "3\n"
    assert (tmp_path / "cache" / "new").read_text() == "kept"
    assert workshop.run(code, step=Step.QA).exit_code == 1
    changed = workshop.run(f"open('{tmp_path}/tools/version', 'w')", step=Step.QA, **opened)
    assert changed.exit_code == 1


@as_root
def test_a_folder_of_root_is_given_to_the_user_and_another_owner_runs_the_command(
    workshop: Workshop, tmp_path: Path
) -> None:
    (workshop.folder / "source").mkdir()
    (workshop.folder / "source" / "file").write_text("")
    (tmp_path / "roots").write_text("")
    os.link(tmp_path / "roots", workshop.folder / "linked")
    (workshop.folder / "link").symlink_to(tmp_path / "roots")
    code = "import os; open('source/file', 'w').write('mine'); print(os.getuid(), os.getgroups())"

    assert workshop.run(code).output == f"{NOBODY} []\n"
    assert (tmp_path / "roots").stat().st_uid == 0, "a file with another name outside stays root's"

    os.chown(workshop.folder, 4321, 4321)
    assert workshop.run("import os; print(os.getuid(), os.getgid())").output == "4321 4321\n"


def test_a_command_that_cannot_be_confined_is_refused(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PipelineSettings, "limits", {"no such limit": 1})

    with pytest.raises(CommandRefused, match="it could not be confined"):
        workshop.run("print('ran')")


def test_settings_that_open_the_data_folder_are_refused(environment: Environment, tmp_path: Path) -> None:
    environment(DATA_DIR=str(tmp_path / "data"), PIPELINE_READABLE=f"/usr:{tmp_path}")
    with pytest.raises(ConfigError, match="PIPELINE_READABLE must not contain DATA_DIR"):
        load_settings()

    environment(PIPELINE_WRITABLE="cache")
    with pytest.raises(ConfigError, match="PIPELINE_WRITABLE must be absolute folders below /"):
        load_settings()

    environment(CHILD_USER="nobody-at-all")
    with pytest.raises(ConfigError, match="CHILD_USER names a user that this system does not have"):
        load_settings()


def test_the_user_of_children_must_exist() -> None:
    with pytest.raises(ValidationError, match="CHILD_USER"):
        ChildSettings(CHILD_USER="nobody-at-all")  # pyright: ignore[reportCallIssue]
