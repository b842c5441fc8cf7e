"""What a declared type means: which types its values have in truth.

Rule: two declarations of one meaning become one type here, so that nobody else has to know the ways to write it.
"""

import typing
from collections import abc
from collections.abc import Iterator
from pathlib import Path, PosixPath, PurePath, PurePosixPath
from types import GenericAlias, MappingProxyType, NoneType, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin

from reconciler.context.refusal import ContextError, called

ANYTHING = (Any, object)

MAPPINGS = (dict, MappingProxyType)

_COLLECTIONS: dict[Any, tuple[Any, ...]] = {
    list: (list,),
    set: (set,),
    frozenset: (frozenset,),
    dict: (dict,),
    MappingProxyType: (MappingProxyType,),
    abc.Sequence: (tuple, list),
    abc.MutableSequence: (list,),
    abc.Set: (frozenset, set),
    abc.MutableSet: (set,),
    abc.Mapping: MAPPINGS,
    abc.MutableMapping: (dict,),
}
"""For each type of a collection, the types of its values."""

_CONCRETE: dict[Any, Any] = {None: NoneType, Path: PosixPath, PurePath: PurePosixPath, tuple: tuple[Any, ...]}


def bare(type_: Any) -> Any:
    """The type that is meant: without annotations and second names, with its items, and no abstract one."""
    type_ = _named(type_)
    collection = get_origin(type_) or type_
    if isinstance(collection, abc.Hashable) and collection in _COLLECTIONS:
        concrete = _COLLECTIONS[collection]
        items = get_args(type_) or (Any,) * (2 if concrete[0] in MAPPINGS else 1)
        return _either(GenericAlias(each, (*items, ...) if each is tuple else items) for each in concrete)
    return _CONCRETE.get(type_, type_)


def _named(type_: Any) -> Any:
    """What a name for a type stands for, or an annotation is about."""
    while True:
        if get_origin(type_) in (typing.Annotated, typing.Final):
            type_ = get_args(type_)[0]
        elif isinstance(type_, typing.NewType):
            type_ = type_.__supertype__
        elif type(type_).__name__ == "TypeAliasType":  # of a `type` statement, from Python 3.12 on
            type_ = type_.__value__
        else:
            return type_


def _either(types: typing.Iterable[Any]) -> Any:
    return Union[tuple(types)]  # noqa: UP007  how many there are is known only here


def is_union(type_: Any) -> bool:
    """Whether it is a union, however it was written."""
    return get_origin(type_) in (Union, UnionType)


def union_of_literals(literal: Any) -> Any:
    """The type of the values of a `Literal`."""
    return _either(map(type, get_args(literal)))


class Members(NamedTuple):
    """The types that a value may have, by its class and by the name of its class."""

    by_class: dict[Any, Any]
    by_name: dict[str, Any]

    def __str__(self) -> str:
        return " or ".join("None" if name == "NoneType" else name for name in self.by_name)


def flat(type_: Any) -> Iterator[Any]:
    """The members of a union, and of the unions in it; or the type itself, where it is none."""
    type_ = bare(type_)
    if is_union(type_):
        for member in get_args(type_):
            yield from flat(member)
    else:
        yield type_


def members(type_: Any) -> Members:
    """The members of a union, or of the type alone. Raises `ContextError` if a value could not tell its member."""
    if not isinstance(type_, abc.Hashable):
        raise _no_class(type_)
    by_class: dict[Any, Any] = {}
    by_name: dict[str, Any] = {}
    for member in dict.fromkeys(flat(type_)):
        for class_ in _classes(member):
            if class_.__name__ in by_name:
                other, name = called(by_name[class_.__name__]), class_.__name__
                raise ContextError(f"a union of {other} and {called(member)}, which both go by the name of {name}")
            by_class[class_] = by_name[class_.__name__] = member
    if float in by_class and int not in by_class:
        by_class[int] = by_name["int"] = float
    return Members(by_class, by_name)


def _classes(member: Any) -> list[type]:
    if get_origin(member) is typing.Literal:
        return list(dict.fromkeys(map(type, get_args(member))))
    class_ = get_origin(member) or member
    if not isinstance(class_, type) or class_ is object:
        raise _no_class(member)
    return [class_]


def _no_class(type_: Any) -> ContextError:
    return ContextError(f"expected a class, or a union of classes like Red | Blue; got {called(type_)}")
