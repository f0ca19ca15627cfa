"""Tokens, as the commands print them."""

from __future__ import annotations

from laneway.cli import times
from laneway.cli.tables import Cell, Grid, ident, text
from laneway.platform.db.models import AccessToken
from laneway.schemas.token import TokenView

STYLES = {"valid": "green", "expired": "yellow", "revoked": "red"}


def token_table(tokens: list[TokenView]) -> Grid:
    """The tokens, one a line."""
    table = Grid(ident("name"), "state", text("scopes"), text("bound to"), "expires", "last use")
    for token in tokens:
        table.add(
            token.name,
            Cell(token.state, STYLES[token.state]),
            " ".join(token.scopes),
            bounds(token),
            "never" if token.expires_at is None else times.ago(token.expires_at),
            "never" if token.used_at is None else times.ago(token.used_at),
        )
    return table


def bounds(token: TokenView) -> str:
    """What a token is bound to: `tenant acme, queues mail`."""
    parts = [
        f"tenant {token.tenant}" if token.tenant else "",
        f"queues {' '.join(token.queues)}" if token.queues else "",
        f"tasks {' '.join(token.names)}" if token.names else "",
    ]
    return ", ".join(filter(None, parts))


def remark(row: AccessToken) -> str:
    """What people should know about a new token."""
    end = "never expires" if row.expires_at is None else f"expires at {times.local(row.expires_at)}"
    old = f" The one before is valid until {times.local(row.old_until)}." if row.old_until is not None else ""
    return f"This is the token {row.name!r}; it {end}. Store it now: it cannot be shown again.{old}"
