"""The steps of a pipeline as single tasks; each runs one command in one folder."""

from __future__ import annotations

from app.schemas.pipeline import CommandResult, PipelineCommand, Step
from app.services.container import services
from laneway.platform.execution.task import PlatformTask, task


@task(queue="dev")
def dev(self: PlatformTask, payload: PipelineCommand) -> CommandResult:
    """Build a project: generate, compile, link."""
    return services().pipeline.run(Step.DEV, payload, self)


@task(queue="qa")
def qa(self: PlatformTask, payload: PipelineCommand) -> CommandResult:
    """Look for defects. The outcome says whether there are any; the output lists them."""
    return services().pipeline.run(Step.QA, payload, self)


@task(queue="fix")
def fix(self: PlatformTask, payload: PipelineCommand) -> CommandResult:
    """Repair the defects of qa's report."""
    return services().pipeline.run(Step.FIX, payload, self)


@task(queue="deploy")
def deploy(self: PlatformTask, payload: PipelineCommand) -> CommandResult:
    """Deploy the result."""
    return services().pipeline.run(Step.DEPLOY, payload, self)
