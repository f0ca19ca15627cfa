"""The platform of a process that nobody has given one, such as a script or a web server that submits tasks."""

from __future__ import annotations

from laneway.platform.application import application
from laneway.platform.current import current_platform, is_platform_known, use_platform
from laneway.platform.logging import log_by_the_program
from laneway.platform.platform import Platform


def platform_to_submit() -> Platform:
    """The platform of this process; at the first use it is made of the section `[tool.laneway]` of the project.

    Raises ConfigError, which says what is missing.
    """
    if not is_platform_known():
        log_by_the_program()
        project = application()
        settings = project.load_settings()
        use_platform(lambda: project.make_platform(settings))
    return current_platform()
