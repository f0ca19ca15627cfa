"""The command `laneway` (extra `platform`)."""

from laneway._extras import require

require("platform", ("pydantic", "rich", "sqlalchemy", "typer"), what="The package `laneway.cli`")
