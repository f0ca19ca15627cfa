"""The entry point of the command `laneway`. It imports the commands only if the packages of the extra are installed.

`laneway adopt` works without them.
"""

from __future__ import annotations

import sys

from laneway._extras import require

PACKAGES = ("pydantic", "rich", "sqlalchemy", "typer")


def main() -> None:
    """Run the command line. If the extra is missing, print one sentence and end with exit code 1."""
    try:
        require("platform", PACKAGES, what="The command `laneway`")
    except ImportError as error:
        if sys.argv[1:2] == ["adopt"]:
            from laneway.adopt.command import main as adopt

            sys.exit(adopt(sys.argv[2:]))
        sys.exit(str(error))
    from laneway.cli.command_line import run

    run()
