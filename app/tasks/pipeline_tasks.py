"""The steps of a pipeline as single tasks: one command in one folder."""

from __future__ import annotations

from app.core import catalog
from app.schemas.pipeline import CommandResult, PipelineCommand, Step
from app.tasks.base import PlatformTask, task


@task(catalog.DEV)
def dev(self: PlatformTask, payload: PipelineCommand) -> CommandResult:
    """Make something of a project: generate, compile, build."""
    return self.services.pipeline.run(Step.DEV, payload, self)


@task(catalog.QA)
def qa(self: PlatformTask, payload: PipelineCommand) -> CommandResult:
    """Look for defects; the outcome says whether there are any, and the output which."""
    return self.services.pipeline.run(Step.QA, payload, self)


@task(catalog.FIX)
def fix(self: PlatformTask, payload: PipelineCommand) -> CommandResult:
    """Repair what the report says."""
    return self.services.pipeline.run(Step.FIX, payload, self)


@task(catalog.DEPLOY)
def deploy(self: PlatformTask, payload: PipelineCommand) -> CommandResult:
    """Bring the result to where it is used."""
    return self.services.pipeline.run(Step.DEPLOY, payload, self)
