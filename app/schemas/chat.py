"""The chat endpoint: an agent's request to run a workflow."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import ConfigDict, model_validator

from app.schemas.savings import CalculatorInputs
from laneway.schemas.payload import Identifier
from laneway.schemas.text import Text
from laneway.schemas.workflow import Name
from laneway.schemas.workflow_run import WorkflowBody, WorkflowIdentity


class ChatContext(WorkflowBody):
    """Which workflow to run, and its input: `calculator_inputs` for the calculator, `input` for other definitions.

    `conversation_id` or `lead_id` names the customer of a follow-up.
    """

    workflow_type: Name
    calculator_inputs: CalculatorInputs | None = None
    conversation_id: Identifier | None = None
    lead_id: Identifier | None = None
    input: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _allow_one_input(self) -> Self:
        if self.calculator_inputs is not None and self.input is not None:
            raise ValueError("calculator_inputs and input exclude each other")
        if self.calculator_inputs is None and (self.conversation_id or self.lead_id):
            raise ValueError("conversation_id and lead_id belong to calculator_inputs; in input, name them there")
        return self

    @property
    def workflow_input(self) -> dict[str, Any]:
        """The input that the workflow starts with."""
        inputs = self.calculator_inputs
        if inputs is None:
            return self.input or {}
        customer = {"conversation_id": self.conversation_id, "lead_id": self.lead_id}
        return inputs.model_dump(mode="json") | {name: id for name, id in customer.items() if id}


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
