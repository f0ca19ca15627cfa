"""Tokens, as the commands print them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from laneway.cli import times
from laneway.cli.tables import Cell, Grid, ident, text

if TYPE_CHECKING:
    from laneway.schemas.token import NewTokenView, TokenView

STYLES = {"valid": "green", "expired": "yellow", "revoked": "red"}


def token_table(tokens: Sequence[TokenView]) -> Grid:
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


def remark(made: NewTokenView) -> str:
    """What people should know about a new token."""
    end = "never expires" if made.expires_at is None else f"expires at {times.local(made.expires_at)}"
    old = f" The one before is valid until {times.local(made.overlap_until)}." if made.overlap_until else ""
    return f"This is the token {made.name!r}; it {end}. Store it now: it cannot be shown again.{old}"
