"""Scripts know one clock, and share their codes, states and kinds with the enums."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from laneway.engine.script_loader import CONSTANTS, OPERATIONS, PREFIXES, load_script, load_scripts, make_script

FOLDER = resources.files("laneway.engine").joinpath("scripts")
RESULT_SCRIPTS = ("store_results", "swap_result")
SOURCES = {
    f"{folder}{file.name}": re.sub(r"--.*", "", file.read_text(encoding="utf-8"))
    for folder, path in (("", FOLDER), ("lib/", FOLDER.joinpath("lib")))
    for file in path.iterdir()
    if file.name.endswith(".lua")
}
"""The text of each Lua file without its comments."""
SHARED_NAME = re.compile(rf"\b(?:{'|'.join(PREFIXES)}|HAS)_[A-Z_]+\b")
BARE_CODE = re.compile(r"\breturn\s*\{?\s*-?\d|\bcodes?(?:\[[^]]*\])?\s*=\s*-?\d|\breport\([^,()]+,\s*-?\d")
LITERAL_STATE = re.compile(rf"'(?:{'|'.join(str(member.value) for member in PREFIXES['STATE'])})'")
LITERAL_KIND = re.compile(r"write_event\([^,]+, *'")
OWN_CODE = re.compile(rf"\blocal\b[^=\n]*\b(?:{'|'.join(PREFIXES)}|HAS)_(?!TIES\b)[A-Z_]+[^=\n]*=")


def test_production_scripts_know_no_clock_but_the_servers() -> None:
    for script in load_scripts().values():
        assert "test" not in script.text
        assert ("'TIME'" in script.text) == ("clock()" in script.text)


def test_every_operation_has_a_script_and_every_script_is_an_operation() -> None:
    files = {name.removesuffix(".lua") for name in SOURCES if "/" not in name}
    assert files == {*OPERATIONS, *RESULT_SCRIPTS, "once"}


@pytest.mark.parametrize("name", SOURCES)
def test_every_code_in_a_script_is_a_member_of_its_enum(name: str) -> None:
    assert set(SHARED_NAME.findall(SOURCES[name])) - {"HAS_TIES"} <= CONSTANTS.keys()


@pytest.mark.parametrize("name", SOURCES)
def test_no_script_defines_or_returns_a_code_of_its_own(name: str) -> None:
    for literal in (BARE_CODE, LITERAL_STATE, LITERAL_KIND, OWN_CODE):
        assert not literal.findall(SOURCES[name])


@pytest.mark.parametrize(
    ("literal", "line"),
    [
        (BARE_CODE, "return 3"),
        (BARE_CODE, "return { 0, number }"),
        (BARE_CODE, "codes[index] = 1"),
        (BARE_CODE, "code = -1"),
        (BARE_CODE, "report(index, 2, id)"),
        (LITERAL_STATE, "q['ready']"),
        (LITERAL_KIND, "write_event(q, 'ack', task)"),
        (OWN_CODE, "local STATUS_DONE, STATUS_STALE = 0, 1"),
    ],
)
def test_a_literal_code_would_be_noticed(literal: re.Pattern[str], line: str) -> None:
    assert literal.search(line)


def test_a_script_gets_the_values_of_constants_but_not_in_comments() -> None:
    script = make_script("example", "-- STATUS_STALE\nreturn { STATUS_DONE, EVENT_ACK, OTHER } -- EVENT_ACK")
    assert script.text == "-- STATUS_STALE\nreturn { 0, 'ack', OTHER } -- EVENT_ACK"


def test_a_constant_that_a_script_declares_is_a_value_too() -> None:
    declared = "local LESS = SPAN / 2 -- half\nlocal LEAST = LESS + 1\nlocal OWN = { 1 }\nreturn LEAST, OWN"
    assert make_script("example", declared).text == "\n\nlocal OWN = { 1 }\nreturn ((900000000000000 / 2) + 1), OWN"


def functions_of(text: str) -> list[str]:
    return re.findall(r"\blocal function (\w+)\(", text)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_script_declares_what_it_uses(name: str) -> None:
    text = re.sub(r"--.*|'[^'\n]*'", "", load_scripts()[name].text)
    declared = {*re.findall(r"\blocal ([A-Z][A-Z_]+) =", text), *re.findall(r"\bfor (?:\w+, )*([A-Z_]+) in", text)}
    declared |= {
        each for names in re.findall(r"\blocal ((?:[A-Z][A-Z_]+, )+[A-Z_]+) =", text) for each in names.split(", ")
    }
    assert set(re.findall(r"(?<!\.)\b[A-Z][A-Z_]+\b", text)) - declared <= {"KEYS", "ARGV"}
    shared = {function for part, source in SOURCES.items() if "lib/" in part for function in functions_of(source)}
    for function in sorted(shared):
        used, made = re.search(rf"(?<!function )\b{function}\(", text), text.find(f"local function {function}(")
        assert not used or 0 <= made < used.start(), function


@pytest.mark.parametrize("name", RESULT_SCRIPTS)
def test_the_scripts_of_the_results_get_their_codes(name: str) -> None:
    assert "RESULT_" not in load_script(name).text
