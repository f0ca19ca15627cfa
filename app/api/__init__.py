"""The HTTP edge: routers parse, services do, one handler answers errors."""
