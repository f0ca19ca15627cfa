"""The pipeline's settings, its defaults in development, its output buffer, and the handler of its steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.core.settings import ROOT, PipelineSettings, load_settings
from app.development import pipeline_example
from app.schemas.pipeline import PipelineCommand, Step
from app.services.pipeline.commands import Pipeline
from app.services.pipeline.errors import UnknownCommand
from app.services.pipeline.output import Output
from app.services.pipeline.steps import StepOptions, run_command
from laneway.platform.errors import ConfigError
from laneway.platform.settings import ChildSettings
from laneway.platform.workflows.handlers import StepCall, StepResult
from tests.fixtures.pipeline import FOLDER, FakeTask, Workshop
from tests.fixtures.platform import Environment

READS_REPORT = "import os; print(open(os.environ.get('PIPELINE_QA_REPORT', os.devnull)).read())"

# --- settings -----------------------------------------------------------------------------------------------------


def test_nothing_is_allowed_unless_it_is_configured(environment: Environment) -> None:
    environment()
    settings = load_settings()

    assert (settings.pipeline.folder, settings.pipeline.commands, settings.pipeline_seconds) == (None, {}, 240)


def test_commands_are_configured_by_step_and_name(environment: Environment) -> None:
    environment(PIPELINE_ROOT="work", PIPELINE_COMMANDS='{"qa": {"test": ["python3", "-m", "unittest"]}}')
    pipeline = load_settings().pipeline

    assert pipeline.commands == {Step.QA: {"test": ["python3", "-m", "unittest"]}}
    assert pipeline.folder == ROOT / "work"


@pytest.mark.parametrize(
    "wrong",
    [
        '{"qa": {"test": "python3 -m unittest"}}',
        '{"qa": {"test": []}}',
        "not JSON",
        '{"build": {"it": ["make"]}}',
        '{"qa": {"../x": ["make"]}}',
        '{"qa": {"test": ["a\\u0000b"]}}',
        '{"qa": {"test": [1]}}',
    ],
)
def test_invalid_commands_are_reported_at_the_start(environment: Environment, wrong: str) -> None:
    environment(PIPELINE_COMMANDS=wrong)

    with pytest.raises(ConfigError, match="PIPELINE_COMMANDS"):
        load_settings()


def test_a_command_must_end_within_the_tasks_limit(environment: Environment) -> None:
    environment(TASK_SOFT_TIME_LIMIT="60")
    assert load_settings().pipeline_seconds == 55

    environment(TASK_SOFT_TIME_LIMIT="60", PIPELINE_TIMEOUT_SECONDS="56")
    with pytest.raises(ConfigError, match="PIPELINE_TIMEOUT_SECONDS and PIPELINE_GRACE_SECONDS together"):
        load_settings()


@pytest.mark.parametrize(
    "folder",
    [
        "",
        "/etc",
        "..",
        "a/../b",
        "a//b",
        ".hidden",
        "a/.git",
        "-x",
        "a b",
        "a\x00",
        "ä",
        "/".join("abcdefghijk"),
        "a" * 201,
    ],
)
def test_a_folder_that_could_lead_elsewhere_is_an_invalid_payload(folder: str) -> None:
    with pytest.raises(ValidationError):
        PipelineCommand(folder=folder, command="it")


# --- development --------------------------------------------------------------------------------------------------


def test_in_development_the_examples_commands_are_allowed_below_the_data_folder(
    environment: Environment, tmp_path: Path
) -> None:
    environment(DATA_DIR=str(tmp_path))
    given = pipeline_example.for_development(load_settings())
    environment(**given)
    settings = load_settings()

    assert settings.pipeline.folder == tmp_path / "pipeline"
    assert {step: list(names) for step, names in settings.pipeline.commands.items()} == {
        Step(step): [name] for step, name in pipeline_example.INPUT.items()
    }
    assert pipeline_example.for_development(settings) == {}, "what is set stays"


@pytest.mark.parametrize(
    "given",
    [
        {"ENVIRONMENT": "production"},
        {"PIPELINE_ROOT": "elsewhere"},
        {"PIPELINE_COMMANDS": '{"qa": {"test": ["true"]}}'},
    ],
)
def test_no_example_command_is_allowed_in_production_or_beside_settings(
    environment: Environment, tmp_path: Path, given: dict[str, str]
) -> None:
    environment(DATA_DIR=str(tmp_path), **given)

    assert pipeline_example.for_development(load_settings()) == {}
    assert not (tmp_path / "pipeline").exists()


def test_a_copy_of_the_example_is_fresh_each_time(tmp_path: Path) -> None:
    folder = pipeline_example.copy_example(tmp_path, "demo")
    (folder / "released").mkdir()

    again = pipeline_example.copy_example(tmp_path, "demo")

    assert again == folder
    assert not (folder / "released").exists()
    assert (folder / "invoice" / "totals.py").read_text() == (
        pipeline_example.EXAMPLE / "invoice" / "totals.py"
    ).read_text()


# --- output -------------------------------------------------------------------------------------------------------


@given(chunks=st.lists(st.binary(max_size=40), max_size=30), limit=st.integers(1, 60))
def test_head_and_tail_are_kept_for_any_chunks(chunks: list[bytes], limit: int) -> None:
    whole = b"".join(chunks).replace(b"\r", b".")
    output = Output(limit, on_line=lambda _line: None)
    for chunk in chunks:
        output.append(chunk.replace(b"\r", b"."))
    output.close()
    head, tail = limit - limit // 2, limit // 2
    kept = output.text()

    assert output.size == len(whole)
    assert output.truncated == (len(whole) > limit)
    if len(whole) <= limit:
        first, last = whole[:head], whole[head:]
        assert kept == (first.decode("utf-8", "replace") + last.decode("utf-8", "replace")).replace("\x00", "")
    else:
        assert f"[{len(whole) - limit} bytes left out]" in kept
        assert kept.startswith(whole[:head].decode("utf-8", "replace").replace("\x00", ""))
        assert kept.endswith(whole[len(whole) - tail :].decode("utf-8", "replace").replace("\x00", ""))


@given(parts=st.lists(st.sampled_from([b"a", b"\n", b"bc\n", b"\nd"]), max_size=40))
def test_every_line_is_passed_on_once(parts: list[bytes]) -> None:
    told: list[str] = []
    output = Output(1000, on_line=told.append)
    for part in parts:
        output.append(part)
    output.close()

    lines = b"".join(parts).decode().split("\n")
    assert told == (lines if lines[-1] else lines[:-1])


def test_a_long_line_is_cut_when_it_is_passed_on() -> None:
    told: list[str] = []
    output = Output(100_000, on_line=told.append)
    for _ in range(100):
        output.append(b"x" * 99)
    output.append(b"\nshort\n")

    assert [len(line) for line in told] == [500, 5]


# --- the workflow's handler ---------------------------------------------------------------------------------------


def call(step: Step, *, outputs: dict[str, dict[str, Any]] | None = None) -> StepCall:
    """A call of one step; the command of each step is `it`."""

    inputs = {"folder": FOLDER, **dict.fromkeys((step.value for step in Step), "it")}
    return StepCall(
        task=cast("Any", FakeTask()),
        run_id="r",
        workflow_type="delivery_pipeline",
        step=step.value,
        visit=1,
        input=inputs,
        options=StepOptions(step=step),
        outputs=outputs or {},
    )


def test_the_fix_step_gets_qas_output(tmp_path: Path) -> None:
    pipeline, qa = Workshop(tmp_path).pipeline(READS_REPORT), {"qa": {"output": "2 failed"}}

    fixed, built = run_command(pipeline, call(Step.FIX, outputs=qa)), run_command(pipeline, call(Step.DEV, outputs=qa))

    assert fixed.output == "2 failed\n"  # type: ignore[union-attr]
    assert built.output == "\n"  # type: ignore[union-attr]


def test_defects_that_qa_finds_are_the_steps_outcome(tmp_path: Path) -> None:
    pipeline = Workshop(tmp_path).pipeline("print('1 failed'); raise SystemExit(1)")

    result = run_command(pipeline, call(Step.QA))

    assert isinstance(result, StepResult)
    assert (result.outcome, result.reason, result.output["output"]) == (
        "failed",
        "it found defects (exit code 1)",
        "1 failed\n",
    )


def test_a_pipeline_that_cannot_finish_does_not_start(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    commands = {step: {"it": ["touch", "built"]} for step in Step if step is not Step.DEPLOY}
    settings = PipelineSettings(PIPELINE_ROOT=tmp_path, PIPELINE_COMMANDS=json.dumps(commands))  # pyright: ignore

    with pytest.raises(UnknownCommand, match="for deploy; PIPELINE_COMMANDS allows: none"):
        run_command(Pipeline(settings, ChildSettings(), seconds=5), call(Step.DEV))
    assert not (workshop.folder / "built").exists()
