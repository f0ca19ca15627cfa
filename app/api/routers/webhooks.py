"""Routes of inbound webhooks. The raw bytes are verified before anything is parsed."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import PlainTextResponse

from app.api.deps import ServicesDep
from app.schemas.webhook import WebhookReceipt
from app.services.webhooks.webhooks import Receipt
from laneway.api.access import public
from laneway.api.errors import problems
from laneway.api.threads import ThreadedRoute, write_in_thread

router = APIRouter(
    prefix="/webhooks",
    tags=["webhooks"],
    route_class=ThreadedRoute,
    dependencies=[public("the platform that sends it signs it")],
)

STORED = "Verified, stored and queued"
SIGNATURE = "`sha256=` followed by the HMAC-SHA256 of the raw body in hexadecimal"


def _request_body(example: dict[str, Any], *, types: tuple[str, ...] = ("object", "array")) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": list(types), **({"items": {}} if "array" in types else {})}
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


FACEBOOK_EXAMPLE = {
    "object": "page",
    "entry": [
        {
            "id": "1001",
            "time": 1_700_000_000_000,
            "messaging": [
                {
                    "sender": {"id": "2002"},
                    "recipient": {"id": "1001"},
                    "timestamp": 1_700_000_000_000,
                    "message": {"mid": "m_1", "text": "Do you repair e-bikes?"},
                }
            ],
        }
    ],
}
GOOGLE_EXAMPLE = {
    "google_key": "…",
    "lead_id": "lead-1",
    "form_id": 7,
    "campaign_id": 8,
    "is_test": False,
    "user_column_data": [{"column_id": "FULL_NAME", "column_name": "Full name", "string_value": "Ada Lovelace"}],
}
GENERIC_EXAMPLE = {"id": "evt-1", "type": "message", "text": "Is my order on its way?", "customer": {"name": "Ada"}}


@router.get(
    "/facebook", response_class=PlainTextResponse, response_description="The challenge", responses=problems(401)
)
def verify_facebook(
    services: ServicesDep,
    mode: Annotated[str | None, Query(alias="hub.mode", max_length=100)] = None,
    token: Annotated[str | None, Query(alias="hub.verify_token", max_length=1000)] = None,
    challenge: Annotated[str | None, Query(alias="hub.challenge", max_length=1000)] = None,
) -> str:
    """Verify a Facebook subscription: echo `hub.challenge` when `hub.verify_token` is ours."""
    return services.webhooks.verify_subscription(mode=mode, token=token, challenge=challenge)


@router.post(
    "/facebook",
    response_description=STORED,
    responses=problems(401, 429),
    openapi_extra=_request_body(FACEBOOK_EXAMPLE),
)
async def post_facebook(
    request: Request,
    services: ServicesDep,
    x_hub_signature_256: Annotated[str | None, Header(description=SIGNATURE, max_length=1000)] = None,
) -> WebhookReceipt:
    """Accept Facebook page events. They are verified, stored and queued before the answer 200."""
    body = await request.body()
    return _receipt(await write_in_thread(services.webhooks.accept_facebook, body, signature=x_hub_signature_256))


@router.post(
    "/google",
    response_description=STORED,
    responses=problems(401, 429),
    openapi_extra=_request_body(GOOGLE_EXAMPLE, types=("object",)),
)
async def post_google(request: Request, services: ServicesDep) -> WebhookReceipt:
    """Accept a Google Ads lead form. Its `google_key` is checked and removed before anything is stored."""
    body = await request.body()
    return _receipt(await write_in_thread(services.webhooks.accept_google, body))


@router.post(
    "/{source}", response_description=STORED, responses=problems(401, 429), openapi_extra=_request_body(GENERIC_EXAMPLE)
)
async def post_generic(
    request: Request,
    services: ServicesDep,
    source: Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", examples=["shop"])],
) -> WebhookReceipt:
    """Accept any other source in WEBHOOK_SECRETS, signed in `X-Signature-256` or the header that its entry names."""
    body = await request.body()
    headers = {name.lower(): value for name, value in request.headers.items()}
    return _receipt(await write_in_thread(services.webhooks.accept_generic, source, body, headers=headers))


def _receipt(receipt: Receipt) -> WebhookReceipt:
    return WebhookReceipt(delivery_id=receipt.delivery_id, task_id=receipt.task_id, duplicate=receipt.duplicate)
