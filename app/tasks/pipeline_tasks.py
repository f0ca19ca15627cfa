"""The steps of a pipeline as single tasks: one command in one folder."""

from __future__ import annotations

from app.schemas.pipeline import CommandResult, PipelineCommand, Step
from app.services.container import services
from laneway.platform.execution.task import PlatformTask, task


@task(queue="dev")
def dev(self: PlatformTask, payload: PipelineCommand) -> CommandResult:
    """Make something of a project: generate, compile, build."""
    return services().pipeline.run(Step.DEV, payload, self)


@task(queue="qa")
def qa(self: PlatformTask, payload: PipelineCommand) -> CommandResult:
    """Look for defects; the outcome says whether there are any, and the output which."""
    return services().pipeline.run(Step.QA, payload, self)


@task(queue="fix")
def fix(self: PlatformTask, payload: PipelineCommand) -> CommandResult:
    """Repair what the report says."""
    return services().pipeline.run(Step.FIX, payload, self)


@task(queue="deploy")
def deploy(self: PlatformTask, payload: PipelineCommand) -> CommandResult:
    """Bring the result to where it is used."""
    return services().pipeline.run(Step.DEPLOY, payload, self)
