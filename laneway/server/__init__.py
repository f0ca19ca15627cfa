"""`laneway up`: the embedded Valkey and the processes of an application (extra `platform`)."""

from laneway._extras import require

require("platform", ("httpx2", "pydantic", "rich", "sqlalchemy"), what="The package `laneway.server`")
