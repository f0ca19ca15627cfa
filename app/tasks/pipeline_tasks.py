"""The steps of a pipeline as single tasks; each runs one command in one folder."""

from __future__ import annotations

from app.schemas.pipeline import CommandResult, PipelineCommand, Step
from app.services.container import services
from laneway import Context, task


@task(queue="dev")
def dev(ctx: Context, payload: PipelineCommand) -> CommandResult:
    """Build a project: generate, compile, link."""
    return services().pipeline.run(Step.DEV, payload, ctx)


@task(queue="qa")
def qa(ctx: Context, payload: PipelineCommand) -> CommandResult:
    """Look for defects. The outcome says whether there are any; the output lists them."""
    return services().pipeline.run(Step.QA, payload, ctx)


@task(queue="fix")
def fix(ctx: Context, payload: PipelineCommand) -> CommandResult:
    """Repair the defects of qa's report."""
    return services().pipeline.run(Step.FIX, payload, ctx)


@task(queue="deploy")
def deploy(ctx: Context, payload: PipelineCommand) -> CommandResult:
    """Deploy the result."""
    return services().pipeline.run(Step.DEPLOY, payload, ctx)
