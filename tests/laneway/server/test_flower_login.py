from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from laneway.platform.errors import ConfigError
from laneway.server import flower_login
from tests.laneway.server.conftest import MakeSettings


def test_a_password_is_generated_once_and_only_our_user_can_read_it(make_settings: MakeSettings) -> None:
    settings = make_settings()

    user, _, password = flower_login.login(settings).partition(":")

    file = settings.storage.folder / flower_login.FILE
    assert user == "laneway"
    assert len(password) >= 20
    assert flower_login.login(settings) == f"laneway:{password}"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == [flower_login.FILE]


def test_a_configured_password_is_used_and_not_written_to_disk(make_settings: MakeSettings) -> None:
    settings = make_settings(FLOWER_USER="ann", FLOWER_PASSWORD="open sesame, open")

    assert flower_login.login(settings) == "ann:open sesame, open"
    assert not settings.storage.folder.exists()


def test_the_hint_names_the_source_of_the_password_but_not_the_password(make_settings: MakeSettings) -> None:
    settings = make_settings()
    password = flower_login.login(settings).partition(":")[2]

    assert password not in flower_login.login_hint(settings)
    assert str(settings.storage.folder / flower_login.FILE) in flower_login.login_hint(settings)
    assert (
        flower_login.login_hint(make_settings(FLOWER_PASSWORD="s3cret-word-of-ann"))
        == "user laneway, password in FLOWER_PASSWORD"
    )


def test_a_password_outside_ascii_is_refused(make_settings: MakeSettings) -> None:
    with pytest.raises(ConfigError, match="FLOWER_PASSWORD must consist of ASCII"):
        flower_login.login(make_settings(FLOWER_PASSWORD="grüße-grüße-grüße"))


def test_an_empty_password_file_never_means_no_password(make_settings: MakeSettings) -> None:
    settings = make_settings()
    settings.storage.folder.mkdir(parents=True)
    (settings.storage.folder / flower_login.FILE).write_text("\n")

    with pytest.raises(ConfigError, match="is empty"):
        flower_login.login(settings)


def test_processes_that_start_at_the_same_time_agree_on_one_password(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = make_settings()
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        logins = pool.map(flower_login.login, [settings] * 24, chunksize=1)

    assert len(set(logins)) == 1
