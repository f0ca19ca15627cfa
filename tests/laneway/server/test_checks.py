from __future__ import annotations

import socket
from pathlib import Path

import pytest

from laneway.platform.errors import ConfigError
from laneway.server.checks import check_port, check_ports, check_probe_ports, make_folder
from laneway.server.errors import FolderUnusable, PortRefused, PortTaken
from tests.fixtures.valkey import free_port
from tests.laneway.server.conftest import MakeSettings


@pytest.mark.parametrize("setting", ["API_PORT", "FLOWER_PORT", "REDIS_PORT"])
def test_the_error_for_a_taken_port_names_its_setting(make_settings: MakeSettings, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        with pytest.raises(PortTaken, match=rf"Port {port} .* set {setting} to a free port") as taken:
            check_ports(make_settings(**{setting: str(port)}))

    assert ("REDIS_URL" in str(taken.value)) == (setting == "REDIS_PORT")


def test_a_port_taken_on_every_address_is_taken_on_loopback_too() -> None:
    with socket.create_server(("0.0.0.0", 0)) as other, pytest.raises(PortTaken):
        check_port("127.0.0.1", other.getsockname()[1], setting="API_PORT")


def test_a_port_with_a_connection_in_time_wait_is_free(make_settings: MakeSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = server.accept()
            accepted.close()  # the server closes first, so that its side stays in TIME_WAIT

    check_ports(make_settings(API_PORT=str(port)))


def test_redis_port_is_not_checked_when_redis_url_is_set(make_settings: MakeSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])

        check_ports(make_settings(REDIS_PORT=port, REDIS_URL=f"redis://127.0.0.1:{port}"))


def test_two_processes_cannot_use_the_same_port(make_settings: MakeSettings) -> None:
    port = str(free_port())

    with pytest.raises(ConfigError, match="API_PORT and REDIS_PORT must differ"):
        check_ports(make_settings(API_PORT=port, REDIS_PORT=port))


def test_listening_on_the_address_of_another_machine_is_refused_with_the_reason() -> None:
    with pytest.raises(PortRefused, match=r"API_PORT cannot be used: listening on 192\.0\.2\.1"):
        check_port("192.0.2.1", free_port(), setting="API_PORT")


def test_an_invalid_host_name_is_refused() -> None:
    with pytest.raises(PortRefused, match="API_PORT cannot be used"):
        check_port("a" * 300, free_port(), setting="API_PORT")


def test_a_file_where_the_data_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")

    with pytest.raises(FolderUnusable, match="DATA_DIR cannot be used"):
        make_folder(tmp_path / "data" / "valkey")


def test_only_our_user_can_read_the_data_folder(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_probes_need_free_ports_that_no_other_setting_names(make_settings: MakeSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        settings = make_settings(PROBE_PORT=str(port), API_PORT=str(free_port()))
        with pytest.raises(PortTaken, match=rf"Port {port} .* set PROBE_PORT to a free port"):
            check_probe_ports(settings, [port])
        with pytest.raises(ConfigError, match=rf"^PROBE_PORT={port} .* API_PORT is {settings.api.port}, too"):
            check_probe_ports(settings, [settings.api.port])
        with pytest.raises(ConfigError, match="there is no port 65536"):
            check_probe_ports(settings, [65536])
