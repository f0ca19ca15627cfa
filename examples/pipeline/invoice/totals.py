"""The totals of an invoice."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

CENT = Decimal("0.01")


def net(prices: list[Decimal], *, discount_percent: int = 0) -> Decimal:
    """The sum of the prices, less the discount, rounded to the cent."""
    return (sum(prices, Decimal(0)) * (100 - discount_percent) / 100).quantize(CENT, ROUND_HALF_UP)


def gross(prices: list[Decimal], *, tax_percent: int, discount_percent: int = 0) -> Decimal:
    """The net sum plus taxes, rounded to the cent."""
    taxed = sum(prices, Decimal(0)) * (100 + tax_percent - discount_percent) / 100
    return taxed.quantize(CENT, ROUND_HALF_UP)
