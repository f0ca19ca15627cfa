"""The steps of the workflow `customer_followup`: tell a customer what automating a task would save.

The message is drafted from the customer's conversation or lead, if the request names one. Scheduling it submits
`continue_conversation_async_task`, which writes it into the conversation when it is due.
"""

from __future__ import annotations

from typing import Protocol

from pydantic import ValidationError

from app.schemas.conversation import Continuation
from app.schemas.lead import LeadView
from app.schemas.savings import CalculatorInputs, FollowUpInputs
from app.services.chat.savings import by_hand, compute_savings, savings_sentence
from app.services.task_manager import TaskManager
from laneway.platform.errors import NotFound
from laneway.platform.workflows.handlers import Handler, Returned, StepCall, failed

MAX_MESSAGE = 8000
NOBODY = "the request names no conversation, and no lead that has one"


class WrittenText(Protocol):
    """What a responder wrote."""

    @property
    def text(self) -> str:
        """The text for the customer."""
        ...


class Conversations(Protocol):
    """What a follow-up needs of the conversations."""

    def view(self, id: str, *, limit: int) -> object:
        """Return a conversation. Raises NotFound."""
        ...

    def draft(self, id: str) -> WrittenText:
        """Write the next turn of a conversation without storing it. Raises NotFound."""
        ...

    def answer(self, question: str) -> WrittenText:
        """Answer a question outside any conversation."""
        ...


class Leads(Protocol):
    """What a follow-up needs of the leads."""

    def view(self, lead_id: str) -> LeadView:
        """Return a lead. Raises NotFound."""
        ...


class FollowUps:
    """Drafts and schedules follow-ups. `delay_hours`: how long after the draft the customer gets the message."""

    def __init__(self, conversations: Conversations, leads: Leads, tasks: TaskManager, *, delay_hours: float) -> None:
        self._conversations, self._leads, self._tasks, self._delay_hours = conversations, leads, tasks, delay_hours

    def step_handlers(self) -> tuple[Handler, ...]:
        """The step handlers that workflow definitions may name."""
        return (
            Handler("followup_validate", self.validate),
            Handler("followup_calculate", self.calculate),
            Handler("followup_draft", self.draft),
            Handler("followup_schedule", self.schedule),
            Handler("followup_summarise", self.summarise),
        )

    def validate(self, call: StepCall) -> Returned:
        """Check the inputs, and that the conversation or lead exists."""
        try:
            inputs = FollowUpInputs.model_validate(call.input)
            lead = self._leads.view(inputs.lead_id) if inputs.lead_id else None
            conversation_id = inputs.conversation_id or (lead.conversation_id if lead else None)
            if inputs.conversation_id:
                self._conversations.view(inputs.conversation_id, limit=1)
        except ValidationError as error:
            return failed(f"invalid inputs: {', '.join(str(item['loc'][0]) for item in error.errors())}")
        except NotFound as error:
            return failed(str(error))
        return {"hours_by_hand": by_hand(_calculator(inputs)), "conversation_id": conversation_id}

    def calculate(self, call: StepCall) -> Returned:
        """Compute the savings of the run's inputs."""
        return compute_savings(_calculator(FollowUpInputs.model_validate(call.input)))

    def draft(self, call: StepCall) -> Returned:
        """Write the message: what the responder writes about the conversation or lead, then the savings."""
        inputs = FollowUpInputs.model_validate(call.input)
        conversation_id = call.outputs["validate"]["conversation_id"]
        parts = [savings_sentence(call.outputs)]
        if conversation_id:
            parts.insert(0, self._conversations.draft(conversation_id).text)
        elif inputs.lead_id:
            parts[:0] = self._about_lead(self._leads.view(inputs.lead_id))
        return {"message": "\n\n".join(parts)[:MAX_MESSAGE]}

    def _about_lead(self, lead: LeadView) -> list[str]:
        greeting = [f"Hello {lead.name},"] if lead.name else []
        return [*greeting, self._conversations.answer(lead.message).text] if lead.message else greeting

    def schedule(self, call: StepCall) -> Returned:
        """Submit the message as the conversation's next turn; a repeat submits nothing new."""
        conversation_id = call.outputs["validate"]["conversation_id"]
        if not conversation_id:
            return {"scheduled": False, "reason": NOBODY}
        message = call.outputs["draft"]["message"]
        handle = self._tasks.submit(
            "continue_conversation_async_task",
            Continuation(conversation_id=conversation_id, reason="operator", message=message),
            id=f"{call.run_id}:follow-up",
            delay=self._delay_hours * 3600,
        )
        run = self._tasks.current(handle.task_id)
        due_at = (run.due_at or run.accepted_at).isoformat(timespec="seconds")
        return {"scheduled": True, "task_id": handle.task_id, "due_at": due_at}

    def summarise(self, call: StepCall) -> Returned:
        """Summarise the run in one sentence."""
        scheduled = call.outputs["schedule"]
        ending = (
            f"goes out at {scheduled['due_at']}" if scheduled["scheduled"] else f"is not sent: {scheduled['reason']}"
        )
        figures = {name: call.outputs["calculate"][name] for name in ("weekly", "monthly", "yearly", "hours_per_week")}
        summary = f"{savings_sentence(call.outputs)} The follow-up {ending}."
        return {"summary": summary, "estimated_savings": figures}


def _calculator(inputs: FollowUpInputs) -> CalculatorInputs:
    return CalculatorInputs.model_validate(inputs.model_dump(include=set(CalculatorInputs.model_fields)))
