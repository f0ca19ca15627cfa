"""Which values are about a person."""

from __future__ import annotations

import pytest

from laneway.platform.erasure.subject import InvalidSubject, Subject

ADA = Subject("ada@example.com", {"conv-417", "c-1", "417417"})


def test_a_name_is_found_in_texts_in_any_case_and_not_in_longer_names() -> None:
    for text in (
        "ada@example.com",
        "Write to Ada@Example.com.",
        "<ada@example.com>",
        "mailto:ada@example.com?x",
        '{"to": "ada@example.com"}',
        b"\xff ada@example.com \x00",
    ):
        assert ADA.owns(text), text
    for text in (
        *("", "ada@example.org", "hada@example.com", "lou.ada@example.com", "x+ada@example.com"),
        *("ada@example.com.au", "ada@example.company", "ada@example.com-x"),
    ):
        assert not ADA.owns(text), text
    assert Subject("Jürgen Müller").owns("für JÜRGEN MÜLLER bestellt")
    assert Subject("+44 20 7946 0958").owns("Tel. +44 20 7946 0958, mobil")


def test_values_are_found_at_any_depth_and_as_names_of_fields() -> None:
    assert ADA.owns({"items": [{"by": {"mail": ["x", "ADA@example.com"]}}]})
    assert ADA.owns({"ada@example.com": 1})
    assert ADA.owns(None, 7, True, {"mail": "ada@example.com"})
    assert not ADA.owns(None, 7, True, {"mail": "bob@example.com"}, [])


def test_an_id_is_found_as_a_value_and_as_a_part_of_an_id() -> None:
    for value in ("conv-417", "message:conv-417:1", "conv-417/answer", "the conversation conv-417 ended."):
        assert ADA.owns(value), value
    assert Subject("ada@example.com", {"task:conv-417"}).owns("after task:conv-417:1")
    assert ADA.owns('{"data": {"conversation_id": "c-1"}}', "see conv-417.")
    for value in ("conv-4170", "conv-41", "xconv-417", "conv-417-b"):
        assert not ADA.owns(value), value


def test_a_short_id_is_found_only_in_a_field_of_ids() -> None:
    assert ADA.owns({"conversation_id": "c-1"}, {"ids": ["c-1"]}, {"key": "c-1"})
    assert ADA.owns({"lead_id": "417417"})
    for value in ({"text": "c-1"}, {"text": "see c-1"}, {"amount": "417417"}, {"message_id": "m:c-1:2"}):
        assert not ADA.owns(value), value


def test_a_subject_that_would_be_everybody_is_refused() -> None:
    for name in ("", "  ", "ab", "  a ", "x" * 255, "a\x00b"):
        with pytest.raises(InvalidSubject, match="3 to 254 characters"):
            Subject(name)


def test_the_fragments_are_parts_that_every_encoding_keeps() -> None:
    assert Subject("Jürgen Müller-Ott", {"conv-1"}).fragments is not None
    assert sorted(Subject("Jürgen Müller-Ott", {"conv-1"}).fragments or []) == ["conv-1", "ller-ott"]
    assert Subject("李小龙李").fragments is None
    assert Subject("ada@example.com", {f"conv-{number}" for number in range(100)}).fragments is None
