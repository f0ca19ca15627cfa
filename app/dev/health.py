"""`python -m app.dev.health PART`: is this container's part well? The same probes as in `up`; exit code 0 or 1."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

from app.core.clock import now
from app.core.config import load_settings
from app.dev.parts import parts

RECENT = timedelta(seconds=60)
"""A worker that has not reported for so long is not well."""


def main() -> None:
    """Ask the part named on the command line."""
    wanted = {part.name: part for part in parts(load_settings())}
    part = wanted.get(sys.argv[1]) if len(sys.argv) == 2 else None
    if part is None:
        sys.exit("usage: python -m app.dev.health " + "|".join(wanted))

    async def ask() -> bool:
        return await part.ready(now() - RECENT)

    if not asyncio.run(ask()):
        sys.exit(f"{part.name} is not well")


if __name__ == "__main__":
    main()
