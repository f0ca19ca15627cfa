# billiard 4.3

REMAP_SIGTERM: str | None
