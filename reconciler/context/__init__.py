"""What travels to a worker: its context, one value of the user's, as one line of JSON.

Rule: what arrives is equal to what was sent, or there is a `ContextError` that names the field, wherever possible
before anything was sent. Nothing is coerced and nothing is guessed: where a union is declared, the line says which
type it is, by the name of its class. No class is looked up by name but among those declared, so that no line can make
other code run.
"""

import dataclasses
import functools
import json
import os
import socket
import typing
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple, Self

import attrs

from reconciler.context.declared import members
from reconciler.context.hooks import Carrier, Hooks, Kind
from reconciler.context.refusal import ContextError, called, unlike

__all__ = ["ContextError", "WorkerContext", "decode", "encode"]


class WorkerContext:
    """A base class for contexts that are more than their fields. None needs it: any attrs class, for one, can be sent.

    A class that overrides `encode_to_string` or `decode_from_string` must override both.
    """

    __slots__ = ()

    def interpreter_options(self) -> Sequence[str]:
        """Options for the interpreter of this worker, each one an argument: `-X...`, `-W...`, `-O`."""
        return ()

    def encode_to_string(self) -> str:
        """The context as text; here its fields, as a line of JSON. Raises `ContextError`."""
        return _written({type(self).__name__: _record(type(self), _carrier()).out(self)})

    @classmethod
    def decode_from_string(cls, text: str) -> Self:
        """The context in a text that `encode_to_string` made. Raises `ContextError`."""
        name, fields = _read(text)
        if name != cls.__name__:
            raise ContextError(f"the context is of type {name}; expected {cls.__name__}")
        made: Self = _record(cls, _carrier()).back(fields)
        return made


def encode(worker: Any) -> tuple[str, tuple[int, ...]]:
    """`worker` as one line without its newline, and the descriptors of the sockets in it, each once.

    A socket travels as the number of its descriptor, which the worker must be given too. A field with `init=False` does
    not travel: its class makes it anew. Raises `ContextError` for what cannot be sent.
    """
    sockets: dict[int, socket.socket] = {}
    token = _sockets.set(sockets)
    name = type(worker).__name__
    try:
        return _written({name: _carrier().out(type(worker))(worker)}), tuple(sockets)
    except RecursionError:
        raise ContextError("nested too deeply, or holds itself", name) from None
    except ContextError as error:
        error.prepend(name)
        raise
    finally:
        _sockets.reset(token)


def decode(line: str, of: Any) -> Any:
    """The worker that `line` holds. `of` is its type, or a union of the types that it may be (`Red | Blue`).

    The sockets in it own their descriptors, which no process inherits from here. Raises `ContextError` if the line is
    no context, or not of these types.
    """
    name, data = _read(line)
    known = members(of)
    if name not in known.by_name:
        raise ContextError(f"the context is of type {name}; expected {known}")
    token = _sockets.set({})
    try:
        return _carrier().back(known.by_name[name])(data)
    except RecursionError:
        raise ContextError("nested too deeply", name) from None
    except ContextError as error:
        error.prepend(name)
        raise
    finally:
        _sockets.reset(token)


_sockets: ContextVar[dict[int, socket.socket]] = ContextVar("_sockets")
"""The sockets in the context at hand, by descriptor: the same one may be in two fields."""


def _written(data: Any) -> str:
    try:
        return json.dumps(data, separators=(",", ":"), check_circular=False)
    except ValueError as error:  # a whole number of thousands of digits
        raise ContextError(f"cannot be written as JSON: {error}") from None


def _read(line: str) -> tuple[str, Any]:
    """The name of the context's type, and its data."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ContextError(f"this is no context, as it is no JSON: {error}") from None
    if not isinstance(data, dict) or len(data) != 1:
        raise ContextError("this is no context, which is one value with the name of its type")
    return next(iter(data.items()))


@functools.cache
def _carrier() -> Carrier:
    return Carrier(
        [
            Kind(_is_record, _record),
            Kind(_writes_itself, _by_itself),
            Kind(lambda type_: type_ is socket.socket, _socket),
        ]
    )


class _Field(NamedTuple):
    """A field of a record: its type, the name by which the class takes it, and whether it must be given."""

    type: Any
    argument: str
    required: bool


def _is_record(type_: Any) -> bool:
    if not isinstance(type_, type):
        return False
    return (
        attrs.has(type_) or dataclasses.is_dataclass(type_) or (issubclass(type_, tuple) and hasattr(type_, "_fields"))
    )


def _fields(type_: Any) -> dict[str, _Field]:
    try:
        types = typing.get_type_hints(type_)
    except Exception as error:
        raise ContextError(f"the types of the fields of {called(type_)} cannot be found: {error}") from error
    if attrs.has(type_):
        return {
            field.name: _Field(types.get(field.name, field.type or Any), field.alias, field.default is attrs.NOTHING)
            for field in attrs.fields(type_)
            if field.init
        }
    if dataclasses.is_dataclass(type_):
        return {
            field.name: _Field(
                types[field.name],
                field.name,
                field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
            )
            for field in dataclasses.fields(type_)
            if field.init
        }
    defaults = type_._field_defaults
    return {name: _Field(types.get(name, Any), name, name not in defaults) for name in type_._fields}


def _record(type_: Any, carrier: Carrier) -> Hooks:
    """A class with fields: attrs, a dataclass or a named tuple."""
    fields = _fields(type_)

    def out(value: Any) -> dict[str, Any]:
        if type(value) is not type_:
            hint = f" (declare {called(type_)} | {type(value).__name__})" if isinstance(value, type_) else ""
            raise ContextError(f"{unlike(type_, value).problem}{hint}")
        return {name: _of(name, carrier.out, field.type, getattr(value, name)) for name, field in fields.items()}

    def back(data: Any, _: Any = None) -> Any:
        if type(data) is not dict:
            raise unlike(type_, data)
        for name in data:
            if name not in fields:
                raise ContextError(f"{called(type_)} has no such field, or does not take it", f".{name}")
        for name, field in fields.items():
            if field.required and name not in data:
                raise ContextError("is missing", f".{name}")
        values = {
            fields[name].argument: _of(name, carrier.back, fields[name].type, each) for name, each in data.items()
        }
        return _made(type_, lambda: type_(**values))

    return Hooks(out, back)


def _of(name: str, hook_of: Callable[[Any], Callable[[Any], Any]], type_: Any, value: Any) -> Any:
    """What the hook for its type makes of one field."""
    try:
        return hook_of(type_)(value)
    except ContextError as error:
        error.prepend(f".{name}")
        raise


def _made(type_: Any, make: Callable[[], Any]) -> Any:
    """What code of the user's makes."""
    try:
        return make()
    except (ContextError, RecursionError):
        raise
    except Exception as error:
        raise ContextError(f"{called(type_)} refuses it with {type(error).__name__}") from error


def _writes_itself(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, WorkerContext) and any(_overrides(type_))


def _overrides(type_: type[WorkerContext]) -> tuple[bool, bool]:
    read = getattr(type_.decode_from_string, "__func__", None)
    ours = WorkerContext.decode_from_string.__func__  # type: ignore[attr-defined]
    return type_.encode_to_string is not WorkerContext.encode_to_string, read is not ours


def _by_itself(type_: Any, _: Carrier) -> Hooks:
    """A `WorkerContext` that overrides how it becomes text."""
    if not all(_overrides(type_)):
        raise ContextError(f"{called(type_)} overrides only one of encode_to_string and decode_from_string")

    def out(value: Any) -> str:
        if type(value) is not type_:
            raise unlike(type_, value)
        text = _made(type_, value.encode_to_string)
        if type(text) is not str:
            raise ContextError(f"encode_to_string returned no str but {type(text).__name__}")
        return text

    def back(text: Any, _: Any = None) -> Any:
        if type(text) is not str:
            raise unlike(type_, text)
        value = _made(type_, lambda: type_.decode_from_string(text))
        if type(value) is not type_:
            raise ContextError(f"decode_from_string returned no {called(type_)} but {type(value).__name__}")
        return value

    return Hooks(out, back)


def _socket(type_: Any, _: Carrier) -> Hooks:
    """By the number of its descriptor."""

    def out(value: Any) -> int:
        if type(value) is not type_:
            raise unlike(type_, value)
        number: int = value.fileno()
        if number < 0:
            raise ContextError("the socket is closed")
        _sockets.get({})[number] = value
        return number

    def back(number: Any, _: Any = None) -> socket.socket:
        if type(number) is not int:
            raise unlike(type_, number)
        known = _sockets.get({})
        if number not in known:
            try:
                known[number] = socket.socket(fileno=number)
                known[number].set_inheritable(False)
                if not os.get_blocking(number):  # as it is shared with others, it stays so
                    known[number].settimeout(0.0)
            except (OSError, ValueError, OverflowError):
                raise ContextError(f"descriptor {number} is no socket here") from None
        return known[number]

    return Hooks(out, back)
