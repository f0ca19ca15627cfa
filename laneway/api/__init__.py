"""FastAPI routers that any application can mount, with one format for all errors (extra `platform`)."""

from laneway._extras import require

require("platform", ("fastapi", "pydantic", "sqlalchemy", "structlog"), what="The package `laneway.api`")
