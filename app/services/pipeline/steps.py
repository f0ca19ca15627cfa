"""The handler that runs a step of `delivery_pipeline`: the command that the run names for it."""

from __future__ import annotations

from functools import partial

from pydantic import BaseModel, ConfigDict

from app.schemas.pipeline import LONGEST_REPORT, PipelineCommand, PipelineInput, Step, StepOutcome
from app.services.pipeline.commands import Pipeline
from laneway.platform.workflows.handlers import Handler, Returned, StepCall, failed


class RunCommand(BaseModel):
    """Which kind of step it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: Step


def run_command(pipeline: Pipeline, call: StepCall) -> Returned:
    """Run it in the run's folder; defects that qa finds are an outcome, and the next fix gets its report."""
    inputs, step = PipelineInput.model_validate(call.input), call.options.step
    pipeline.check(inputs)  # all of it, so that a pipeline that cannot end does not begin
    report = str(call.outputs.get(Step.QA, {}).get("output", ""))[-LONGEST_REPORT:] if step is Step.FIX else None
    wanted = PipelineCommand(folder=inputs.folder, command=inputs.command(step), report=report)
    result = pipeline.run(step, wanted, call.task)
    if result.outcome is StepOutcome.FAILED:
        reason = f"{wanted.command} found defects (exit code {result.exit_code})"
        return failed(reason, result.model_dump(mode="json"))
    return result


def step_handlers(pipeline: Pipeline) -> tuple[Handler, ...]:
    """The handlers that definitions may name."""
    return (Handler("run_command", partial(run_command, pipeline), RunCommand),)
