"""The context of a trace in rows and messages, whatever somebody has put there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.platform.tracing.carrier import CARRIER, carrier_of, checked, recorded_trace

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    "parent",
    [
        *(
            None,
            17,
            b"",
            [],
            "",
            "00",
            PARENT.upper(),
            f" {PARENT}",
            f"{PARENT}\n",
            f"{PARENT}-more",
            f"01{PARENT[2:]}",
        ),
        *(f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"ff-{TRACE}-{SPAN}-01", "0" * 100_000),
        PARENT.replace("0", "\N{ARABIC-INDIC DIGIT ZERO}"),
    ],
)
def test_a_parent_that_is_not_valid_is_none(parent: object) -> None:
    assert checked({"traceparent": parent, "tracestate": "shop=1"}) == {}
    assert carrier_of({CARRIER: {"traceparent": parent}}) == {}


@pytest.mark.parametrize(
    "state", [None, 17, "", "shop=1\r\nx: y", "a" * 513, "sh\N{LATIN SMALL LETTER O WITH DIAERESIS}p=1"]
)
def test_a_state_that_is_not_valid_does_not_cost_the_parent(state: object) -> None:
    assert checked({"traceparent": PARENT, "tracestate": state}) == {"traceparent": PARENT}


def test_a_valid_context_is_passed_on_as_it_is_and_nothing_else() -> None:
    given = {"traceparent": PARENT, "tracestate": "shop=1,other=2"}
    assert checked({**given, "baggage": "user=17", "id": "t-1"}) == given
    assert carrier_of({CARRIER: given, "unique": ["k", 1, 0]}) == given


@pytest.mark.parametrize(("flags", "shown"), [("01", TRACE), ("03", TRACE), ("00", None), ("02", None)])
def test_the_id_of_a_trace_is_shown_only_if_the_trace_is_recorded(flags: str, shown: str | None) -> None:
    assert recorded_trace({CARRIER: {"traceparent": f"00-{TRACE}-{SPAN}-{flags}"}}) == shown
    assert recorded_trace({}) is None


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda part: st.lists(part) | st.dictionaries(st.text(), part))
)
def test_whatever_the_option_of_a_row_is_the_row_can_be_read(value: Any) -> None:
    assert carrier_of({CARRIER: value}) == {}
    assert checked(value) == {}
