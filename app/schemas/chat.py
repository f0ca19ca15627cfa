"""The chat endpoint: an agent's request to run a workflow."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import ConfigDict, model_validator

from app.schemas.savings import CalculatorInputs
from laneway.platform.schemas.history import Text
from laneway.platform.schemas.workflow import Name
from laneway.platform.schemas.workflow_run import WorkflowBody, WorkflowIdentity


class ChatContext(WorkflowBody):
    """Which workflow to run, and its input: `calculator_inputs` for the calculator, `input` for other definitions."""

    workflow_type: Name
    calculator_inputs: CalculatorInputs | None = None
    input: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _allow_one_input(self) -> Self:
        if self.calculator_inputs is not None and self.input is not None:
            raise ValueError("calculator_inputs and input exclude each other")
        return self

    @property
    def workflow_input(self) -> dict[str, Any]:
        """The input that the workflow starts with."""
        inputs = self.calculator_inputs
        return inputs.model_dump(mode="json") if inputs is not None else self.input or {}


class ChatRequest(WorkflowIdentity):
    """An agent's request to run a workflow."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "agent_id": "agent-7",
                    "mode": "execute",
                    "context": {
                        "workflow_type": "savings_assessment",
                        "calculator_inputs": {
                            "tasks_per_week": 20,
                            "time_per_task_minutes": 5,
                            "hourly_wage": 25,
                            "automation_percent": 80,
                        },
                    },
                }
            ]
        },
    )

    agent_id: Text
    mode: Literal["execute"]
    context: ChatContext
