"""Removes a model's chain of thought from its text: nothing of it is stored or sent.

Many servers put the thoughts into the answer's own text, between marks that depend on the model. A mark may be
missing: some templates begin the thought themselves, so that only its end arrives; an answer that was cut has only its
beginning. In doubt more is removed than necessary.
"""

from __future__ import annotations

import re
from typing import Final

_TAG: Final = r"(?:\w+:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad)"
_BEGIN: Final = rf"<\s*{_TAG}\b[^<>]*>|<\|(?:begin_of_thought|thinking?)\|>|◁think▷|\[THINK\]"
_END: Final = rf"<\s*/\s*{_TAG}\s*>|<\|(?:end_of_thought|/thinking?)\|>|◁/think▷|\[/THINK\]"
_MARKS: Final = re.compile(rf"(?P<begin>{_BEGIN})|(?P<end>{_END})", re.IGNORECASE)
_UNFINISHED_MARK: Final = re.compile(rf"<\s*/?\s*{_TAG}\b[^<>]*\Z", re.IGNORECASE)
"""A mark that the end of a cut answer has cut, too."""
_CHANNEL: Final = re.compile(
    r"<\|channel\|>\s*(\w+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
    r"(.*?)(?=<\|(?:end|start|return|call|channel)\||\Z)",
    re.DOTALL,
)
"""One message of the Harmony format, in which thoughts have the channel "analysis" and the answer has "final"."""
_CONTROL: Final = re.compile(r"<\|(?:begin|end)_of_(?:solution|text)\|>|<\|(?:im_end|end|return|eot_id)\|>")


def without_thoughts(text: str) -> str:
    """The answer in a model's text; empty if it has thoughts only."""
    channels = _CHANNEL.findall(text)
    if channels:
        text = "".join(message for channel, message in channels if channel == "final")
    elif text.startswith("analysis"):  # The same, by a server that removed the marks but not the words.
        text = text.rpartition("assistantfinal")[2]
    kept: list[str] = []
    position, thinking = 0, False
    for mark in _MARKS.finditer(text):
        if mark["end"] and not thinking:
            kept.clear()  # Only the end of a thought: all before it was thought.
        elif not thinking:
            kept.append(text[position : mark.start()])
        thinking = bool(mark["begin"])
        position = mark.end()
    if not thinking:
        kept.append(_UNFINISHED_MARK.sub("", text[position:]))
    return _CONTROL.sub("", "".join(kept)).strip()
