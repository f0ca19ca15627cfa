"""The semantics of tasks: submission, attempts, history, dead letters, schedules, workflows (extra `platform`)."""

from laneway._extras import require

require(
    "platform",
    (
        "alembic",
        "cronsim",
        "httpx2",
        "pydantic",
        "pydantic_settings",
        "sqlalchemy",
        "standardwebhooks",
        "structlog",
        "yaml",
    ),
    what="The package `laneway.platform`",
)
