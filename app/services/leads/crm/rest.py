"""A CRM with a REST API, reached as the settings say.

Creating and updating are one JSON request each, with an Idempotency-Key. What the answer means:

- 2xx: taken. The answer to a creation has the record's id at `CRM_ID_PATH`.
- 408, 425, 429, 5xx, a time-out, no connection: may pass; Retry-After is honoured.
- 409: what the CRM has stands against it. With an id at `CRM_ID_PATH` that is the record; else it is tried again.
- 404 and 410 of an update: the record is gone.
- any other answer, redirects included: refused for good, with what the CRM said, without the token.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final
from urllib.parse import quote

from app.core.settings import CrmSettings
from app.services.leads.crm.base import SERVICE, CrmConflict, CrmLead, CrmMissing, CrmRefused, CrmUnreadable
from app.services.leads.crm.mapping import found, mapped
from laneway.platform import clock
from laneway.platform.errors import PlatformError, UpstreamError
from laneway.platform.webhooks import egress
from laneway.platform.webhooks.address_rules import AllowPrivate

PASSING: Final = frozenset({408, 425, 429})
GONE: Final = (404, 410)
LONGEST_SAID, LONGEST_ID = 300, 200
"""Characters of what a CRM said that are told on, and of the ids that it gives."""
_HINTS: Final = {
    401: "check CRM_TOKEN",
    403: "check CRM_TOKEN and what it may do",
    404: "check CRM_BASE_URL and CRM_CREATE_REQUEST",
    405: "check CRM_CREATE_REQUEST and CRM_UPDATE_REQUEST",
}


class RestCrm:
    """Safe to share among threads: it keeps no connection."""

    name = "rest"

    def __init__(self, settings: CrmSettings) -> None:
        self._settings, self._base = settings, (settings.base_url or "").rstrip("/")
        self._token = settings.token.get_secret_value() if settings.token else ""

    def create(self, lead: CrmLead, *, key: str) -> str:
        """Make a record; its id."""
        method, _, path = self._settings.create_request.partition(" ")
        answer = self._ask(method, path, mapped(lead.data, self._settings.mapping, blanks=False), key=key)
        if 200 <= answer.status < 300:
            id = self._id(answer)
            if id is None:
                where = f"CRM_ID_PATH ({self._settings.id_path})"
                raise CrmUnreadable(SERVICE, f"it answered {answer.status}, and no id is at {where} of its answer")
            return id
        raise self._refusal(answer)

    def update(self, id: str, lead: CrmLead, *, key: str) -> None:
        """Make the record say what the lead says; what is not known any more is sent as null."""
        method, _, path = self._settings.update_request.partition(" ")
        path = path.replace("{id}", quote(id, safe=""))
        answer = self._ask(method, path, mapped(lead.data, self._settings.mapping, blanks=True), key=key)
        if answer.status in GONE:
            raise CrmMissing(id)
        if not 200 <= answer.status < 300:
            raise self._refusal(answer)

    def _ask(self, method: str, path: str, body: dict[str, Any], *, key: str) -> egress.HttpResponse:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Idempotency-Key": key}
        if self._token:
            name, _, value = self._settings.auth_header.partition(": ")
            headers[name] = value.replace("{token}", self._token)
        try:
            return egress.send(
                method,
                self._base + path,
                json.dumps(body).encode(),
                headers=headers,
                timeout=self._settings.timeout,
                allow_private=AllowPrivate.ALL,
            )
        except UpstreamError as error:
            raise UpstreamError(SERVICE, error.reason, error.after) from None

    def _refusal(self, answer: egress.HttpResponse) -> PlatformError:
        said = self._said(answer.body)
        reason = f"it answered {answer.status}" + (f" ({said})" if said else "")
        if answer.status == 409:
            return CrmConflict(said or "without a reason", self._id(answer))
        if answer.status in PASSING or answer.status >= 500:
            asked = egress.retry_after(answer.headers.get("retry-after"), at=clock.now())
            return UpstreamError(SERVICE, reason, asked)
        hint = _HINTS.get(answer.status)
        if 300 <= answer.status < 400:
            hint = "redirects are not followed, check CRM_BASE_URL"
        return CrmRefused(SERVICE, reason + (f": {hint}" if hint else ""))

    def _id(self, answer: egress.HttpResponse) -> str | None:
        try:
            id = found(json.loads(answer.body), self._settings.id_path)
        except (ValueError, RecursionError):
            return None
        if isinstance(id, bool) or not isinstance(id, str | int):
            return None
        text = str(id)
        return text if 0 < len(text) <= LONGEST_ID and text.isprintable() else None

    def _said(self, body: bytes) -> str:
        """The beginning of what it said, in one line; a token that it repeats is blanked."""
        text = body.decode("utf-8", "replace")
        for form in filter(None, (self._token, json.dumps(self._token)[1:-1])):
            text = text.replace(form, "***")
        return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", text).strip()[:LONGEST_SAID]
