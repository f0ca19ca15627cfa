"""Reads the declaration of a task from its function: a mistake is reported when the module is imported."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Final, Union, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel, create_model
from pydantic.errors import PydanticUserError

from laneway._suggestion import suggest
from laneway.platform.errors import InvalidPayload
from laneway.platform.execution.chunk import ChunkContext
from laneway.platform.execution.context import Context
from laneway.platform.registry import BadTask
from laneway.schemas.choices import IfBusy
from laneway.schemas.payload import Payload

_NAMED: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_NO_RESULTS: Final = (int, float, str, bytes, bool, list, tuple, set)


class Arguments(Payload):
    """The base of the payloads that are made from the parameters of a function."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """How the function of a task is called."""

    task: str
    payload: type[Payload]
    """The function's own payload type, or a subclass of `Arguments` with a field for each parameter."""
    signature: inspect.Signature
    """The parameters without that of the context."""
    takes_context: bool

    @property
    def is_plain(self) -> bool:
        """True when the function takes plain arguments, False when it takes one payload."""
        return issubclass(self.payload, Arguments)

    def payload_of(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Payload | dict[str, Any]:
        """The payload of a call, not validated. Raises InvalidPayload for arguments that the function cannot take."""
        if self.is_plain:
            try:
                return dict(self.signature.bind(*args, **kwargs).arguments)
            except TypeError as error:
                raise InvalidPayload(self.task, [str(error)]) from None
        if not args:
            return dict(kwargs)
        if len(args) > 1 or kwargs or not isinstance(args[0], BaseModel | Mapping):
            problem = f"expected one {self.payload.__name__}, or its fields by name"
            raise InvalidPayload(self.task, [problem])
        return cast("Payload | dict[str, Any]", args[0])

    def call(self, work: Callable[..., Any], context: Context, payload: Payload) -> Any:
        """Call the function of the running task with a validated payload."""
        first = (context,) if self.takes_context else ()
        return work(*first, **dict(payload)) if self.is_plain else work(*first, payload)


def declaration_of(work: Callable[..., Any], *, task: str, is_chunk: bool = False) -> Declaration:
    """Read the declaration of a task. Raises BadTask for a function that cannot be a task."""
    if inspect.iscoroutinefunction(work) or inspect.isasyncgenfunction(work):
        raise BadTask(
            task, "its function is async: make it a plain one that runs the coroutine, `return asyncio.run(...)`."
        )
    if inspect.isgeneratorfunction(work):
        raise BadTask(task, "its function has a yield: it would not run when it is called.")
    hints = _hints(work, task=task)
    parameters = list(inspect.signature(work).parameters.values())
    if is_chunk:
        return _chunk_declaration(parameters, hints, task=task)
    takes_context = bool(parameters) and hints.get(parameters[0].name) is Context
    own = parameters[1:] if takes_context else parameters
    for parameter in own:
        _check_parameter(parameter, hints, task=task)
    _check_result(hints.get("return"), task=task)
    only = hints[own[0].name] if len(own) == 1 else None
    payload = cast("type[Payload]", only) if _is_model(only) else _arguments_model(own, hints, work, task=task)
    return Declaration(task, payload, inspect.Signature(own), takes_context)


def _chunk_declaration(parameters: Sequence[inspect.Parameter], hints: Mapping[str, Any], *, task: str) -> Declaration:
    """The declaration of a function that handles many tasks at once."""
    if parameters and hints.get(parameters[0].name) is Context:
        raise BadTask(task, "it runs in chunks, so its first parameter may be a laneway.ChunkContext, not a Context.")
    takes_context = bool(parameters) and hints.get(parameters[0].name) is ChunkContext
    own = parameters[1:] if takes_context else parameters
    hint = hints.get(own[0].name) if len(own) == 1 and own[0].kind in _NAMED else None
    arguments = get_args(hint) if get_origin(hint) in (list, Sequence) else ()
    if len(arguments) != 1 or not _is_model(arguments[0]):
        raise BadTask(task, "it runs in chunks, so its function takes one list of payloads: `payloads: list[Mail]`.")
    result = hints.get("return")
    if result not in (None, type(None), Any) and get_origin(result) not in (list, Sequence, Union, UnionType):
        raise BadTask(task, "it runs in chunks, so it returns None, or a list with one entry for each payload.")
    return Declaration(task, arguments[0], inspect.Signature(own), takes_context)


def checked_retries(retries: int | None, *, task: str) -> int | None:
    """The number of retries. Raises BadTask when it is negative."""
    if retries is not None and retries < 0:
        raise BadTask(task, f"retries={retries} is negative; 0 means that it is never retried.")
    return retries


def checked_cost(cost: int, *, task: str) -> int:
    """How many slots a run takes. Raises BadTask for less than one."""
    if cost < 1 or cost != int(cost):
        raise BadTask(task, f"cost={cost!r} must be a whole number of slots, at least 1.")
    return cost


def checked_delays(delays: Sequence[float] | None, *, task: str) -> tuple[float, ...] | None:
    """The seconds before each retry. Raises BadTask when there are none, or a negative one."""
    if delays is None:
        return None
    if not delays or any(delay < 0 for delay in delays):
        raise BadTask(task, f"delays={list(delays)} must be seconds before each retry: at least one, none negative.")
    return tuple(delays)


def checked_if_busy(if_busy: str, *, task: str) -> IfBusy:
    """What happens while another task of the key waits or runs. Raises BadTask for a word that is not known."""
    try:
        return IfBusy(if_busy)
    except ValueError:
        words = [word.value for word in IfBusy]
        raise BadTask(task, f"if_busy is not {suggest(if_busy, words)}; it is one of {', '.join(words)}.") from None


def checked_aliases(aliases: Sequence[str], *, task: str) -> tuple[str, ...]:
    """The earlier names of a task. Raises BadTask for a single text, of which each letter would be a name."""
    if isinstance(aliases, str):
        raise BadTask(task, f"aliases={aliases!r} must be a list of names: ({aliases!r},).")
    return tuple(aliases)


def _hints(work: Callable[..., Any], *, task: str) -> dict[str, Any]:
    try:
        return get_type_hints(work, include_extras=True)
    except (NameError, TypeError, SyntaxError) as error:
        raise BadTask(
            task, f"the type of a parameter cannot be read ({error}); import it at the top of the module."
        ) from error


def _check_parameter(parameter: inspect.Parameter, hints: Mapping[str, Any], *, task: str) -> None:
    name = parameter.name
    if parameter.kind not in _NAMED:
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        raise BadTask(task, f"its parameter {stars + name!r} cannot be given by its name; each argument needs one.")
    if name not in hints:
        problem = f"its parameter {name!r} has no type; annotate it. `{name}: laneway.Context` is the running task."
        raise BadTask(task, problem)
    if hints[name] is ChunkContext:
        raise BadTask(task, f"its parameter {name!r} is a ChunkContext; declare it with chunk=Chunk(...).")
    if hints[name] is Context:
        raise BadTask(task, f"its parameters are in the wrong order: the running task, {name!r}, comes first.")
    if name.startswith("_") and not _is_model(hints[name]):
        raise BadTask(task, f"its parameter {name!r} begins with an underscore; a field of a payload must not.")


def _check_result(result: Any, *, task: str) -> None:
    kind = get_origin(result) or result
    if kind in _NO_RESULTS:
        name = getattr(kind, "__name__", str(kind))
        raise BadTask(task, f"it returns {name}; a result is a JSON object: return a dict, a pydantic model or None.")


def _arguments_model(
    parameters: Sequence[inspect.Parameter], hints: Mapping[str, Any], work: Callable[..., Any], *, task: str
) -> type[Payload]:
    """Make the payload type of plain arguments. Raises BadTask for types that JSON cannot carry."""
    fields: dict[str, Any] = {
        parameter.name: (hints[parameter.name], ... if parameter.default is parameter.empty else parameter.default)
        for parameter in parameters
    }
    name = "".join(map(str.capitalize, work.__name__.split("_"))) + "Arguments"
    try:
        with warnings.catch_warnings():  # a parameter may have the name of a method of pydantic, such as `json`
            warnings.simplefilter("ignore", UserWarning)
            model = create_model(name, __base__=Arguments, __module__=work.__module__, __doc__=work.__doc__, **fields)
        model.model_json_schema()
    except (PydanticUserError, NameError, TypeError, ValueError) as error:
        text = str(error).splitlines()[0]
        raise BadTask(task, f"its parameters cannot be sent as JSON: {text}") from error
    return model


def _is_model(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseModel)
