"""Every step handler and every type of input that definitions may name.

A module of handlers has a tuple `HANDLERS`; it is put in here, and nowhere else.
"""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel

from app.schemas.pipeline import PipelineInput
from app.schemas.savings import CalculatorInputs
from app.services.workflows import pipeline, savings
from app.services.workflows.handlers import Handler

HANDLERS: Final[dict[str, Handler]] = {handler.name: handler for handler in (*savings.HANDLERS, *pipeline.HANDLERS)}
INPUTS: Final[dict[str, type[BaseModel]]] = {"calculator_inputs": CalculatorInputs, "pipeline": PipelineInput}
