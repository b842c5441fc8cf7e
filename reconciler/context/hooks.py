"""How the values of each type travel as JSON: from the value to plain data, and back.

Rule: strict both ways. A value has the declared type and no other (but an int may stand for a float), and so has the
data that comes back. cattrs finds the hooks for a type; the hooks are ours, because its own turn `"3"` into 3, text
into a list of characters, and a subclass into its base.
"""

import base64
import enum
import functools
import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta, timezone
from pathlib import PosixPath, PurePosixPath
from types import GenericAlias, NoneType
from typing import Any, NamedTuple, get_args, get_origin
from uuid import UUID

from reconciler.context.declared import ANYTHING, MAPPINGS, bare, flat, is_union, members, union_of_literals
from reconciler.context.refusal import ContextError, called, unlike


class Hooks(NamedTuple):
    """How the values of one type travel."""

    out: Callable[[Any], Any]  # from the value to its data
    back: Callable[..., Any]  # from the data to the value; cattrs calls it with the type as well


class Kind(NamedTuple):
    """A kind of types: which these are, and their hooks."""

    fits: Callable[[Any], bool]
    hooks: Callable[[Any, "Carrier"], Hooks]


class _Asked(NamedTuple):
    """A type as cattrs is asked for it: not as a class, for which it would prefer its hooks for a base such as str."""

    type: Any


class Carrier:
    """The hooks of all types: those of `kinds`, the last one that fits, and else those of this module."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        from cattrs import Converter  # noqa: PLC0415  costs 15 ms, and a master may fork workers without

        self._converter = Converter()
        for kind in (*_KINDS, *kinds):
            self._register(kind)

    def _register(self, kind: Kind) -> None:
        def fits(asked: Any) -> bool:
            return isinstance(asked, _Asked) and kind.fits(asked.type)

        self._converter.register_unstructure_hook_factory(fits, lambda asked: kind.hooks(asked.type, self).out)
        self._converter.register_structure_hook_factory(fits, lambda asked: kind.hooks(asked.type, self).back)

    def out(self, type_: Any) -> Callable[[Any], Any]:
        """The hook that makes data of a value. Raises `ContextError` for a type whose values cannot be sent."""
        return self._converter.get_unstructure_hook(_Asked(type_))

    def back(self, type_: Any) -> Callable[..., Any]:
        """The hook that makes a value of its data. Raises `ContextError` likewise."""
        return self._converter.get_structure_hook(_Asked(type_))


def each(hook: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """What `hook` makes of each item; an error says which."""
    done: list[Any] = []
    try:
        for item in items:
            done.append(hook(item))  # noqa: PERF401  how far it came is the place of the error
    except ContextError as error:
        error.prepend(f"[{len(done)}]")
        raise
    return done


def each_value(hook: Callable[[Any], Any], items: Mapping[Any, Any]) -> dict[str, Any]:
    """What `hook` makes of each value of a dict whose keys are text; an error says which."""
    done = {}
    for key, value in items.items():
        if type(key) is not str:
            raise ContextError(f"expected keys of type str; got {type(key).__name__}")
        try:
            done[key] = hook(value)
        except ContextError as error:
            error.prepend(f"[{key[:60]!r}]")
            raise
    return done


def _by_meaning(type_: Any, carrier: Carrier) -> Hooks:
    return Hooks(carrier.out(bare(type_)), carrier.back(bare(type_)))


def _none_at_all(type_: Any, _: Carrier) -> Hooks:
    raise ContextError(f"values of type {called(type_)} cannot be sent")


def _anything(_: Any, __: Carrier) -> Hooks:
    """Where no type is declared: what is the same again when it comes back from JSON."""

    def out(value: Any) -> Any:
        if type(value) in (str, int, float, bool, NoneType):
            return value
        if type(value) is list:
            return each(out, value)
        if type(value) is dict:
            return each_value(out, value)
        raise ContextError(f"a value of type {type(value).__name__} can only be sent where its type is declared")

    return Hooks(out, lambda data, _=None: data)


def _exact(type_: Any, _: Carrier) -> Hooks:
    """What JSON has itself."""
    types = (float, int) if type_ is float else (type_,)

    def check(value: Any, _: Any = None) -> Any:
        if type(value) not in types:
            raise unlike(type_, value)
        return value

    return Hooks(check, check)


def _as_text(type_: Any, _: Carrier) -> Hooks:
    write, read = _TEXTS[type_]

    def out(value: Any) -> str:
        if type(value) is not type_:
            raise unlike(type_, value)
        return write(value)

    def back(text: Any, _: Any = None) -> Any:
        if type(text) is not str:
            raise unlike(type_, text)
        try:
            return read(text)
        except (ValueError, OverflowError, LookupError):
            raise ContextError(f"this is no text of a {called(type_)}") from None

    return Hooks(out, back)


def _stamp(when: datetime) -> str:
    zone = when.tzinfo
    if zone is None:
        return when.isoformat()
    if type(zone) is timezone:
        offset = zone.utcoffset(None)
        if not offset % timedelta(seconds=1):
            return when.isoformat()
        # Python 3.11 reads an offset of less than a second as none at all.
        return f"{when.replace(tzinfo=None).isoformat()}[{offset // _MICROSECOND}]"
    key = getattr(zone, "key", None)
    if type(zone).__module__ != "zoneinfo" or key is None:
        raise ContextError(f"a time zone of type {type(zone).__name__} cannot be sent; use one of zoneinfo")
    return f"{when.isoformat()}[{key}]"


def _when(stamp: str) -> datetime:
    iso, bracket, key = stamp.removesuffix("]").partition("[")
    when = datetime.fromisoformat(iso)
    if not bracket:
        return when
    if key.removeprefix("-").isdecimal():
        return when.replace(tzinfo=timezone(timedelta(microseconds=int(key))))
    from zoneinfo import ZoneInfo  # noqa: PLC0415  only few need it

    first = when.replace(tzinfo=ZoneInfo(key))
    return first if first.utcoffset() == when.utcoffset() else first.replace(fold=1)


_MICROSECOND = timedelta(microseconds=1)

_TEXTS: dict[type, tuple[Callable[[Any], str], Callable[[str], Any]]] = {
    PosixPath: (str, PosixPath),
    PurePosixPath: (str, PurePosixPath),
    UUID: (str, UUID),
    bytes: (lambda data: base64.b64encode(data).decode(), functools.partial(base64.b64decode, validate=True)),
    date: (date.isoformat, date.fromisoformat),
    datetime: (_stamp, _when),
    timedelta: (lambda span: str(span // _MICROSECOND), lambda text: timedelta(microseconds=int(text))),
}


def _is_enum(type_: Any) -> bool:
    return isinstance(type_, enum.EnumMeta)


def _enum(type_: Any, _: Carrier) -> Hooks:
    """By name, as a value may be anything; flags, which may be several, by value."""
    by_number = issubclass(type_, enum.Flag)

    def out(value: Any) -> Any:
        if type(value) is not type_:
            raise unlike(type_, value)
        if not by_number and type_.__members__.get(value.name) is not value:
            raise ContextError(f"this is no member of {called(type_)}")
        return value.value if by_number else value.name

    def back(data: Any, _: Any = None) -> Any:
        if type(data) is not (int if by_number else str):
            raise unlike(type_, data)
        try:
            return type_(data) if by_number else type_[data]
        except (KeyError, ValueError):
            raise ContextError(f"this is no member of {called(type_)}") from None

    return Hooks(out, back)


def _literal(type_: Any, carrier: Carrier) -> Hooks:
    allowed, union = get_args(type_), union_of_literals(type_)

    def check(value: Any) -> Any:
        if not any(type(each) is type(value) and each == value for each in allowed):
            raise ContextError(f"expected {called(type_)}; got another {type(value).__name__}")
        return value

    return Hooks(
        lambda value: carrier.out(union)(check(value)),
        lambda data, _=None: check(carrier.back(union)(data)),
    )


def _union(type_: Any, carrier: Carrier) -> Hooks:
    """A value that may be None goes as it is, or as null; any other goes with the name of its class."""
    types = dict.fromkeys(flat(type_))
    if any(each in ANYTHING for each in types):
        return _anything(type_, carrier)
    if NoneType in types and len(types) == 2:  # noqa: PLR2004
        (other,) = types.keys() - {NoneType}
        return Hooks(
            lambda value: None if value is None else carrier.out(other)(value),
            lambda data, _=None: None if data is None else carrier.back(other)(data),
        )
    known = members(type_)

    def out(value: Any) -> dict[str, Any]:
        if type(value) not in known.by_class:
            raise ContextError(f"expected {known}; got {type(value).__name__}")
        return {type(value).__name__: carrier.out(known.by_class[type(value)])(value)}

    def back(data: Any, _: Any = None) -> Any:
        if type(data) is not dict or len(data) != 1:
            raise ContextError(f"expected {known}, with its name; got {type(data).__name__}")
        ((name, inner),) = data.items()
        if name not in known.by_name:
            raise ContextError(f"expected {known}; got {name}")
        return carrier.back(known.by_name[name])(inner)

    return Hooks(out, back)


def _collection(type_: Any, carrier: Carrier) -> Hooks:
    """Lists, sets, and tuples of any length."""
    collection, item = get_origin(type_), get_args(type_)[0]

    def out(value: Any) -> list[Any]:
        if type(value) is not collection:
            raise unlike(type_, value)
        return each(carrier.out(item), value)

    def back(data: Any, _: Any = None) -> Any:
        if type(data) is not list:
            raise unlike(type_, data)
        return collection(each(carrier.back(item), data))

    return Hooks(out, back)


def _tuple(type_: Any, carrier: Carrier) -> Hooks:
    """Tuples with a type for each place."""
    items = get_args(type_)
    if len(items) == 2 and items[1] is Ellipsis:  # noqa: PLR2004
        return _collection(type_, carrier)

    def all_of(expected: Any, hook_of: Callable[[Any], Callable[[Any], Any]], values: Any) -> list[Any]:
        if type(values) is not expected:
            raise unlike(type_, values)
        if len(values) != len(items):
            raise ContextError(f"expected {called(type_)}; got {len(values)} items")
        return each(lambda pair: hook_of(pair[0])(pair[1]), zip(items, values, strict=True))

    return Hooks(
        lambda value: all_of(tuple, carrier.out, value),
        lambda data, _=None: tuple(all_of(list, carrier.back, data)),
    )


def _mapping(type_: Any, carrier: Carrier) -> Hooks:
    """As an object where all keys are text, else as a list of pairs."""
    mapping, (key, item) = get_origin(type_), get_args(type_)
    as_object = bare(key) is str
    pairs = GenericAlias(tuple, (key, item))

    def out(value: Any) -> Any:
        if type(value) is not mapping:
            raise unlike(type_, value)
        entries: Any = value
        return each_value(carrier.out(item), entries) if as_object else each(carrier.out(pairs), entries.items())

    def back(data: Any, _: Any = None) -> Any:
        if type(data) is not (dict if as_object else list):
            raise unlike(type_, data)
        entries: Any = data
        return mapping(
            each_value(carrier.back(item), entries) if as_object else dict(each(carrier.back(pairs), entries))
        )

    return Hooks(out, back)


_KINDS = [
    Kind(lambda _: True, _none_at_all),
    Kind(lambda type_: type_ in ANYTHING, _anything),
    Kind(lambda type_: type_ in (bool, int, float, str, NoneType), _exact),
    Kind(lambda type_: type_ in _TEXTS, _as_text),
    Kind(_is_enum, _enum),
    Kind(is_union, _union),
    Kind(lambda type_: get_origin(type_) is typing.Literal, _literal),
    Kind(lambda type_: get_origin(type_) in (list, set, frozenset), _collection),
    Kind(lambda type_: get_origin(type_) is tuple, _tuple),
    Kind(lambda type_: get_origin(type_) in MAPPINGS, _mapping),
    Kind(lambda type_: bare(type_) != type_, _by_meaning),
]
