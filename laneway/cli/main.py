"""The entry point of the command `laneway`. It imports the commands only if the packages that they need are there.

`laneway adopt` and `laneway doctor APP` need none of them.
"""

from __future__ import annotations

import atexit
import gc
import sys

from laneway._extras import require

SELDOM = (200_000, 20, 20)
"""Thresholds of the garbage collector: importing makes many objects, and nothing of them becomes garbage."""
PACKAGES = ("pydantic", "rich", "typer")


def main() -> None:
    """Run the command line. If a package is missing, print one sentence and end with exit code 1."""
    try:
        require("platform", PACKAGES, what="The command `laneway`")
    except ImportError as error:
        if sys.argv[1:2] == ["adopt"]:
            from laneway.adopt.command import main as adopt

            sys.exit(adopt(sys.argv[2:]))
        if sys.argv[1:2] == ["doctor"]:
            from laneway.doctor.command import main as doctor

            sys.exit(doctor(sys.argv[2:]))
        sys.exit(str(error))
    gc.set_threshold(*SELDOM)
    from laneway.cli.command_line import run

    atexit.register(gc.freeze)  # else the interpreter looks for garbage once more when it ends
    run()


if __name__ == "__main__":
    main()
