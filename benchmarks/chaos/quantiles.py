"""Figures of a list of times."""

from __future__ import annotations

from collections.abc import Sequence


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Count, p50, p99 and maximum (seconds); empty when there are no values."""
    if not values:
        return {}
    ranked = sorted(values)
    return {
        "count": len(ranked),
        "p50": round(ranked[len(ranked) // 2], 3),
        "p99": round(ranked[min(len(ranked) - 1, int(len(ranked) * 0.99))], 3),
        "max": round(ranked[-1], 3),
    }
