"""Requests and responses of the API, and payloads of tasks: pydantic models that the platform and the client share."""

from laneway._extras import require

require("platform", ("pydantic",), what="The package `laneway.schemas`")
