"""FastAPI routers that any application can mount, and one form for every error (extra `platform`)."""

from laneway._extras import require

require("platform", ("fastapi", "pydantic", "sqlalchemy", "structlog"), what="The package `laneway.api`")
