"""The step handler of the workflow `delivery_pipeline`: runs the command that the run names for the step."""

from __future__ import annotations

from functools import partial

from pydantic import BaseModel, ConfigDict

from app.schemas.pipeline import MAX_REPORT_LENGTH, PipelineCommand, PipelineInput, Step, StepOutcome
from app.services.pipeline.commands import Pipeline
from laneway.platform.workflows.handlers import Handler, Returned, StepCall, failed


class StepOptions(BaseModel):
    """The options of a step in the definition."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: Step


def run_command(pipeline: Pipeline, call: StepCall) -> Returned:
    """Run a step's command in the run's folder. Defects are an outcome of qa; the next fix gets qa's report."""
    inputs, step = PipelineInput.model_validate(call.input), call.options.step
    pipeline.check(inputs)  # Check all steps, so that a pipeline that cannot finish does not start.
    report = str(call.outputs.get(Step.QA, {}).get("output", ""))[-MAX_REPORT_LENGTH:] if step is Step.FIX else None
    payload = PipelineCommand(folder=inputs.folder, command=inputs.command(step), report=report)
    result = pipeline.run(step, payload, call.task)
    if result.outcome is StepOutcome.FAILED:
        reason = f"{payload.command} found defects (exit code {result.exit_code})"
        return failed(reason, result.model_dump(mode="json"))
    return result


def step_handlers(pipeline: Pipeline) -> tuple[Handler, ...]:
    """The step handlers that workflow definitions may name."""
    return (Handler("run_command", partial(run_command, pipeline), StepOptions),)
