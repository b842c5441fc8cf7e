"""From YAML text to plain data. Imported at the first YAML file.

Rule: YAML 1.2 and of it only what TOML and JSON can say: one document, text as keys, no aliases, tags, directives or
merge keys. ruamel.yaml is written in Python and takes some 40 microseconds for a token, so that the size and the number
of tokens are bounded more tightly than in the other formats.
"""

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.scanner import Scanner

from reconciler.sources.refusal import MAX_DEPTH, TOO_DEEP, InputError, shown

MAX_CHARACTERS = 16384
"""The size of the largest YAML file."""

MAX_TOKENS = 800
"""How many keys, values, and beginnings and ends of lists and tables a YAML file may have."""

_CONVERTED = frozenset(f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float", "null", "timestamp"))


def parse_yaml(text: str) -> Any:
    """The plain data in `text`; an empty document is an empty table. Raises `InputError` only."""
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"too large for YAML: {len(text)} characters; at most {MAX_CHARACTERS} are read (four times that in TOML)"
        )
    try:
        return _Builder(text).document()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InputError(f"not valid YAML: {str(error.problem)[:120]}{_at(mark) if mark else ''}") from None
    except YAMLError as error:
        raise InputError(f"not valid YAML: {str(error).splitlines()[0][:120]}") from None
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - the parser trips over some escapes and numbers: still only a bad file
        raise InputError(f"not valid YAML: the parser stumbled over it ({type(error).__name__})") from None


def _at(mark: Any) -> str:
    return f" at line {mark.line + 1}, column {mark.column + 1}"


def _refused(message: str, event: Any) -> InputError:
    return InputError(message + _at(event.start_mark))


class _Scanner(Scanner):
    """Counts open brackets: the scanner runs far ahead of the parser, and its time grows with the square of them."""

    def fetch_flow_collection_start(self, *token: Any, **bracket: Any) -> None:
        if self.flow_level >= MAX_DEPTH:
            raise InputError(f"{TOO_DEEP}{_at(self.reader.get_mark())}")
        super().fetch_flow_collection_start(*token, **bracket)


class _Builder:
    """Builds one document from the parser's events, and stops at the first thing that is not allowed."""

    def __init__(self, text: str) -> None:
        self._yaml = YAML(typ="safe", pure=True)
        self._yaml.Scanner = _Scanner
        self._events = self._yaml.parse(text)
        self._count = 0

    def document(self) -> Any:
        self._next()  # the start of the stream
        start = self._next()
        if isinstance(start, StreamEndEvent):
            return {}
        if isinstance(start, DocumentStartEvent) and (start.version or start.tags):
            raise _refused("a directive (a line that begins with %) is not allowed", start)
        value = self._value(self._next(), 0)
        self._next()  # the end of the document
        after = self._next()
        if not isinstance(after, StreamEndEvent):
            raise _refused("a second document is not allowed", after)
        return {} if value is None else value

    def _next(self) -> Any:
        self._count += 1
        event = next(self._events)
        if self._count > MAX_TOKENS:
            raise _refused(f"too long for YAML: more than {MAX_TOKENS} keys and values (write it in TOML)", event)
        return event

    def _value(self, event: Any, depth: int) -> Any:
        if isinstance(event, AliasEvent):
            raise _refused("an alias (*) is not allowed", event)
        if event.tag is not None:
            raise _refused(f"a tag ({shown(event.tag)}) is not allowed", event)
        if isinstance(event, ScalarEvent):
            return self._scalar(event)
        if depth >= MAX_DEPTH:
            raise _refused(TOO_DEEP, event)
        if isinstance(event, SequenceStartEvent):
            return self._list(depth + 1)
        assert isinstance(event, MappingStartEvent)  # noqa: S101 - a node is one of these four
        return self._table(depth + 1)

    def _list(self, depth: int) -> list[Any]:
        items = []
        while not isinstance(event := self._next(), SequenceEndEvent):
            items.append(self._value(event, depth))
        return items

    def _table(self, depth: int) -> dict[str, Any]:
        table: dict[str, Any] = {}
        while not isinstance(event := self._next(), MappingEndEvent):
            key = self._value(event, depth)
            if not isinstance(key, str):
                raise _refused(f"expected text as a key; got {shown(key)}", event)
            if key == "<<" and event.implicit[0]:
                raise _refused("a merge key (<<) is not allowed", event)
            if key in table:
                raise _refused(f"the key {shown(key)} stands twice in one table", event)
            table[key] = self._value(self._next(), depth)
        return table

    def _scalar(self, event: Any) -> Any:
        tag = self._yaml.resolver.resolve(ScalarNode, event.value, event.implicit)
        if str(tag) not in _CONVERTED:
            return event.value
        try:
            return self._yaml.constructor.construct_object(ScalarNode(tag, event.value, event.start_mark))
        except ValueError:  # the value is not quoted here: it may be that of a secret
            raise _refused("something like a number or a date that is none; put it in quotes", event) from None
