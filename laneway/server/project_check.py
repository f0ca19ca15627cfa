"""`python -m laneway.server.project_check`: imports the project as its processes will, and prints what it declares.

Exit code 1, and one sentence on standard error, if the project cannot run. `laneway up --reload` calls it before it
restarts anything.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from laneway.platform.application import application
from laneway.platform.errors import PlatformError
from laneway.platform.queues import queues


def main() -> None:
    """Check the project of the current folder."""
    try:
        found = application()
        found.declare_queues()
        platform = found.make_platform(found.load_settings())
        broken = [str(each) for each in platform.workflow_definitions.broken]
    except PlatformError as error:
        sys.exit(str(error))
    workers = [asdict(group) for group in queues.workers]
    print(json.dumps({"queues": dict(queues), "workers": workers, "broken": broken}))


if __name__ == "__main__":
    main()
