"""The fixtures of Laneway for pytest, which finds them by itself. A test that uses none of them imports nothing more.

`laneway_clock`: the platform's clock. `laneway_platform`: the project's application on a real Valkey and SQLite.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from laneway.testing.clock import Clock
    from laneway.testing.flows import TestPlatform
    from laneway.testing.installation import TestInstallation


@pytest.fixture
def laneway_clock() -> Generator[Clock]:
    """The platform's clock under the control of the test. Between its moves it runs."""
    from laneway.testing.clock import Clock

    clock = Clock()
    with clock.installed():
        yield clock


@pytest.fixture(scope="session")
def laneway_installation(tmp_path_factory: pytest.TempPathFactory) -> Generator[TestInstallation]:
    """The servers of this process and the application of the project; started at the first use."""
    from laneway.platform.errors import ConfigError
    from laneway.testing.installation import TestInstallation
    from laneway.testing.valkey_server import NoServer

    try:
        installation = TestInstallation(tmp_path_factory.mktemp("laneway"))
    except (NoServer, ConfigError) as error:
        pytest.fail(f"laneway_platform cannot start. {error}", pytrace=False)
    yield installation
    installation.close()


@pytest.fixture
def laneway_platform(laneway_installation: TestInstallation, laneway_clock: Clock) -> Generator[TestPlatform]:
    """The platform of the project without tasks and rows, with a worker in the thread of the test."""
    from laneway.testing.flows import TestPlatform

    with laneway_installation.platform() as platform:
        flows = TestPlatform(laneway_installation, platform, laneway_clock)
        yield flows
        flows.close()
