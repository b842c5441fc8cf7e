"""Contexts travel: what arrives is what was sent, or there is an error that names the field."""

import dataclasses
import enum
import json
import os
import socket
import typing
from collections import namedtuple
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from pathlib import Path, PurePath
from types import MappingProxyType
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.context import ContextError, WorkerContext, decode, encode


class Colour(enum.Enum):
    """Members whose values JSON could not carry."""

    RED = (255, 0, 0)
    CRIMSON = (255, 0, 0)  # noqa: PIE796  a second name is meant
    BLUE = object()


class Level(enum.IntEnum):
    """Members that are ints."""

    LOW = 1


class Word(enum.StrEnum):
    """Members that are text."""

    YES = "no"


class Access(enum.Flag):
    """Members that come together."""

    READ = 1
    WRITE = 2


@attrs.frozen
class Red:
    """One kind of worker."""

    depth: int


@attrs.frozen
class Blue:
    """Another kind, whose fields have the same name."""

    depth: int


@attrs.frozen
class Crimson(Red):
    """A kind of the first kind."""

    shade: str = ""


@dataclasses.dataclass(frozen=True)
class Limits:
    """A dataclass, nested in others."""

    memory: int | None
    rates: tuple[float, ...] = ()
    made: list[int] = dataclasses.field(default_factory=list, init=False)


class Point(typing.NamedTuple):
    """A named tuple."""

    x: int
    y: "Point | None" = None


Pair = namedtuple("Pair", "one two")  # noqa: PYI024  one without types is meant

Port = typing.NewType("Port", int)


@attrs.frozen
class Everything:
    """A field for each kind of type."""

    number: int
    real: float
    text: str
    flag: bool
    data: bytes
    place: Path
    pure: PurePath
    when: datetime
    day: date
    span: timedelta
    uuid: UUID
    colours: tuple[Colour, Level, Word]
    access: Access
    word: typing.Literal["auto", 1, True, Colour.RED, None]  # noqa: PYI061  as one may write it
    kind: Red | Blue | Crimson | None
    size: typing.Literal["all"] | int | bool | float | Path
    maybe: typing.Optional[Red]  # noqa: UP045  as many write it
    many: list[Red | Blue]
    bag: set[str]
    frozen_bag: frozenset[tuple[int, Path]]
    sequence: Sequence[int]
    either: AbstractSet[int] | list[str] | None
    names: dict[str, list[int]]
    by_place: Mapping[Path, Limits]
    limits: Limits
    point: Point
    port: Port
    noted: typing.Annotated[int, {"not": "hashable"}]
    anything: typing.Any
    bare: dict  # type: ignore[type-arg]
    _private: int = attrs.field(kw_only=True)


numbers = st.integers()
texts = st.text(st.characters())
places = st.builds(Path, st.text(st.characters(exclude_characters="\0"), max_size=20))
zones = st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23))) | st.sampled_from(
    [UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("Pacific/Apia"), ZoneInfo("Africa/Monrovia")]
)
reds = st.builds(Red, numbers)
kinds = st.one_of(reds, st.builds(Blue, numbers), st.builds(Crimson, numbers, texts))
limits = st.builds(Limits, st.none() | numbers, st.lists(st.floats(allow_nan=False) | numbers).map(tuple))
plain = st.recursive(
    st.none() | st.booleans() | numbers | texts | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
mappings = st.dictionaries(places, limits, max_size=3)

everything = st.builds(
    Everything,
    number=numbers,
    real=numbers | st.floats(allow_nan=False),
    text=texts,
    flag=st.booleans(),
    data=st.binary(),
    place=places,
    pure=places.map(lambda place: PurePath(str(place))),
    when=st.datetimes(timezones=st.none() | zones),
    day=st.dates(),
    span=st.timedeltas(),
    uuid=st.uuids(),
    colours=st.tuples(st.sampled_from(Colour), st.sampled_from(Level), st.sampled_from(Word)),
    access=st.sampled_from([Access(0), Access.READ, Access.READ | Access.WRITE]),
    word=st.sampled_from(["auto", 1, True, Colour.RED, None]),
    kind=st.none() | kinds,
    size=st.just("all") | numbers | st.booleans() | st.floats(allow_nan=False) | places,
    maybe=st.none() | reds,
    many=st.lists(reds | st.builds(Blue, numbers), max_size=3),
    bag=st.sets(texts, max_size=3),
    frozen_bag=st.frozensets(st.tuples(numbers, places), max_size=3),
    sequence=st.lists(numbers, max_size=3) | st.lists(numbers, max_size=3).map(tuple),
    either=st.none() | st.sets(numbers) | st.frozensets(numbers) | st.lists(texts, max_size=3),
    names=st.dictionaries(texts, st.lists(numbers, max_size=3), max_size=3),
    by_place=mappings | mappings.map(MappingProxyType),
    limits=limits,
    point=st.builds(Point, numbers, st.none() | st.builds(Point, numbers)),
    port=numbers,
    noted=numbers,
    anything=plain,
    bare=st.dictionaries(texts | numbers, plain, max_size=3),
    private=numbers,
)


def travelled(value, of=None):
    """The value as it arrives."""
    return decode(encode(value)[0], of or type(value))


def refused(value, of=None):
    """Why a value cannot travel."""
    with pytest.raises(ContextError) as caught:
        travelled(value, of)
    return str(caught.value)


@given(everything)
def test_what_arrives_is_what_was_sent(sent):
    """A context with a field of each kind of type arrives equal, each field with the type that it had."""
    arrived = travelled(sent)

    assert arrived == sent
    for name in (field.name for field in attrs.fields(Everything)):
        assert type(getattr(arrived, name)) in (type(getattr(sent, name)), dict)
    assert arrived.when.utcoffset() == sent.when.utcoffset()
    assert getattr(arrived.when.tzinfo, "key", None) == getattr(sent.when.tzinfo, "key", None)


def test_an_offset_of_less_than_a_second():
    """A time whose offset from UTC is a microsecond arrives with that offset."""
    for span in (timedelta(microseconds=1), timedelta(microseconds=-1), timedelta(hours=-1, microseconds=7)):
        when = datetime(2000, 1, 1, tzinfo=timezone(span))
        assert travelled(when).utcoffset() == span


@given(everything)
def test_a_context_is_one_line_of_ascii(sent):
    """Whatever is in it, the context is one line of JSON in ASCII, without a newline."""
    line, descriptors = encode(sent)

    assert line.isascii()
    assert line.splitlines() == [line]
    assert list(json.loads(line)) == ["Everything"]
    assert descriptors == ()


@given(kinds)
def test_a_union_arrives_as_the_member_that_was_sent(sent):
    """Of a union of classes, with the same fields or of one base, the very class arrives."""
    arrived = travelled(sent, Red | Blue | Crimson)

    assert type(arrived) is type(sent)
    assert arrived == sent


@pytest.mark.parametrize("sent", [3, "three", None, True, Colour.BLUE, Path("three"), (3, "three", None), Pair(1, [])])
def test_a_worker_may_be_any_value(sent):
    """A worker need not be of a class of the user's."""
    assert travelled(sent) == sent


@pytest.mark.parametrize("real", [float("inf"), float("-inf"), float("nan"), -0.0])
def test_any_float_arrives(real):
    """Floats arrive that JSON does not know."""
    assert repr(travelled(real)) == repr(real)


def test_megabytes_arrive():
    """A context of many megabytes arrives."""
    sent = Limits(None, tuple(range(1_000_000)))

    assert travelled(sent) == sent


@attrs.frozen
class Tree:
    """A class whose fields are of itself."""

    name: str
    children: "tuple[Tree, ...]" = ()
    shapes: "dict[str, Tree | Point | None]" = attrs.field(factory=dict)


def test_a_class_may_hold_itself():
    """A type whose annotations are text, and that nests in itself, arrives."""
    sent = Tree("root", (Tree("leaf"), Tree("twig", (Tree("leaf"),))), {"point": Point(1, Point(2)), "none": None})

    assert travelled(sent) == sent


def test_what_the_class_makes_itself_does_not_travel():
    """A field with init=False is made anew by the class, in the worker."""
    sent = Limits(3)
    sent.made.append(4)

    assert travelled(sent).made == []


def test_a_field_with_a_default_may_be_absent():
    """A context from a program in which the class had fewer fields is taken, if the new ones have defaults."""
    assert decode('{"Crimson":{"depth":1}}', Crimson) == Crimson(1)


@attrs.frozen
class Holder:
    """Fields of other types, for what cannot be sent."""

    anything: typing.Any = None
    words: Sequence[str] = ()
    pair: tuple[int, str] = (1, "")
    red: Red = Red(0)
    kind: Red | Blue | None = None
    by_name: dict[str, Limits] = attrs.field(factory=dict)
    keys: dict[int, str] = attrs.field(factory=dict)
    real: float = 0.0
    text: str = ""
    colour: Colour = Colour.RED
    mode: typing.Literal["a", 1] = "a"
    call: typing.Callable[[], None] | None = None
    when: datetime | None = None
    place: Path = Path()


class Zone(tzinfo):
    """A time zone of the user's own."""

    def utcoffset(self, _):
        """None at all."""
        return timedelta(0)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (
            {"anything": object()},
            "a value of type object can only be sent where its type is declared @ Holder.anything",
        ),
        ({"anything": [{"a": (1,)}]}, "where its type is declared @ Holder.anything[0]['a']"),
        ({"anything": {1: 2}}, "expected keys of type str; got int @ Holder.anything"),
        ({"words": "text"}, "expected tuple or list; got str @ Holder.words"),
        ({"words": ("text", 3)}, "expected str; got int @ Holder.words[1]"),
        ({"pair": (1, "", 2)}, "expected tuple[int, str]; got 3 items @ Holder.pair"),
        ({"pair": [1, ""]}, "expected tuple[int, str]; got list @ Holder.pair"),
        ({"pair": ("", "")}, "expected int; got str @ Holder.pair[0]"),
        ({"red": Crimson(1)}, "expected Red; got Crimson (declare Red | Crimson) @ Holder.red"),
        ({"red": Blue(1)}, "expected Red; got Blue @ Holder.red"),
        ({"red": None}, "expected Red; got None @ Holder.red"),
        ({"red": Red(True)}, "expected int; got bool @ Holder.red.depth"),
        ({"kind": Crimson(1)}, "expected Red or Blue or None; got Crimson @ Holder.kind"),
        ({"kind": Blue("1")}, "expected int; got str @ Holder.kind.depth"),
        ({"by_name": {"a": Limits("1")}}, "expected int; got str @ Holder.by_name['a'].memory"),
        ({"by_name": {1: Limits(1)}}, "expected keys of type str; got int @ Holder.by_name"),
        ({"keys": {"1": "a"}}, "expected int; got str @ Holder.keys[0][0]"),
        ({"real": True}, "expected float; got bool @ Holder.real"),
        ({"real": "1"}, "expected float; got str @ Holder.real"),
        ({"text": 1}, "expected str; got int @ Holder.text"),
        ({"text": Word.YES}, "expected str; got Word @ Holder.text"),
        ({"colour": "RED"}, "expected Colour; got str @ Holder.colour"),
        ({"mode": "b"}, "expected typing.Literal['a', 1]; got another str @ Holder.mode"),
        ({"mode": True}, "expected typing.Literal['a', 1]; got another bool @ Holder.mode"),
        ({"call": lambda: None}, "cannot be sent @ Holder.call"),
        ({"when": datetime(1, 1, 1, tzinfo=Zone())}, "a time zone of type Zone cannot be sent; use one of zoneinfo"),
        ({"when": date(1, 1, 1)}, "expected datetime; got date @ Holder.when"),
        ({"place": "text"}, "expected PosixPath; got str @ Holder.place"),
        ({"anything": 10**5000}, "cannot be written as JSON: Exceeds the limit"),
    ],
)
def test_what_cannot_be_sent_is_told_with_its_field(fields, problem):
    """A value that is not of the declared type is refused before it is sent, by type, with the path of its field."""
    with pytest.raises(ContextError) as caught:
        encode(Holder(**fields))

    assert problem in str(caught.value)


def test_a_union_must_tell_its_members_apart():
    """A union of types with one class name is refused, as the line could not say which it was."""

    @attrs.frozen
    class Torn:
        items: list[int] | list[str]

    assert refused(Torn([1])) == "a union of list[int] and list[str], which both go by the name of list @ Torn.items"


def test_a_value_that_holds_itself_is_refused():
    """A list in itself is an error and no endless work."""
    endless = []
    endless.append(endless)

    assert "nested too deeply, or holds itself" in refused(Holder(anything=endless))


@pytest.mark.parametrize("worker", [lambda: None, Holder, 1j, iter([1])])
def test_a_worker_that_cannot_be_sent(worker):
    """A worker of a type that cannot be sent is refused by its type."""
    assert refused(worker).startswith(f"values of type {type(worker).__name__} cannot be sent")


def test_types_that_cannot_be_found():
    """A class whose annotations name nothing is refused, by the name that was not found."""

    @attrs.frozen
    class Local:
        field: "Nowhere"  # noqa: F821

    assert "the types of the fields of Local cannot be found: name 'Nowhere' is not defined" in refused(Local(1))


@pytest.mark.parametrize(
    ("line", "of", "problem"),
    [
        ("", Red, "this is no context, as it is no JSON"),
        ('{"Red":{"depth":1', Red, "this is no context, as it is no JSON"),
        ("[" * 100_000, Red, "this is no context, as it is no JSON"),
        ("[1]", Red, "this is no context, which is one value with the name of its type"),
        ('{"Red":{},"Blue":{}}', Red, "this is no context, which is one value"),
        ('{"Red":{"depth":1}}', Blue, "the context is of type Red; expected Blue"),
        ('{"Red":{"depth":1}}', Blue | Crimson, "the context is of type Red; expected Blue or Crimson"),
        ('{"Red":{"depth":1}}', [Red], "expected a class, or a union of classes like Red | Blue; got [<class"),
        ('{"Red":{"depth":1}}', "Red", "expected a class, or a union of classes like Red | Blue; got Red"),
        ('{"Red":{"depth":"1"}}', Red, "expected int; got str @ Red.depth"),
        ('{"Red":{"depth":true}}', Red, "expected int; got bool @ Red.depth"),
        ('{"Red":{"depth":1.0}}', Red, "expected int; got float @ Red.depth"),
        ('{"Red":{"depth":1,"depht":1}}', Red, "Red has no such field, or does not take it @ Red.depht"),
        ('{"Red":{}}', Red, "is missing @ Red.depth"),
        ('{"Red":[1]}', Red, "expected Red; got list @ Red"),
        ('{"Limits":{"memory":1,"made":[]}}', Limits, "does not take it @ Limits.made"),
        ('{"Limits":{"memory":1,"rates":"12"}}', Limits, "expected tuple[float, ...]; got str @ Limits.rates"),
        ('{"Holder":{"kind":{"depth":1}}}', Holder, "expected Red or Blue or None; got depth @ Holder.kind"),
        ('{"Holder":{"kind":{"Crimson":{"depth":1}}}}', Holder, "expected Red or Blue or None; got Crimson"),
        ('{"Holder":{"colour":"GREEN"}}', Holder, "this is no member of Colour @ Holder.colour"),
        ('{"Holder":{"when":"yesterday"}}', Holder, "this is no text of a datetime @ Holder.when"),
        ('{"Holder":{"when":"2020-01-01T00:00:00[../x]"}}', Holder, "this is no text of a datetime @ Holder.when"),
        ('{"bytes":"***"}', bytes, "this is no text of a bytes @ bytes"),
        ('{"Access":8}', Access, "this is no member of Access @ Access"),
        ('{"socket":"3"}', socket.socket, "expected socket; got str @ socket"),
        ('{"socket":-1}', socket.socket, "descriptor -1 is no socket here @ socket"),
        ('{"socket":99999}', socket.socket, "descriptor 99999 is no socket here @ socket"),
    ],
)
def test_what_cannot_be_taken_is_told_with_its_field(line, of, problem):
    """A line that is no context, or not of these types, is refused with the path of the field."""
    with pytest.raises(ContextError) as caught:
        decode(line, of)

    assert problem in str(caught.value)


@attrs.frozen
class Picky:
    """A class that checks its fields."""

    port: int = attrs.field(validator=attrs.validators.lt(10))


def test_what_the_class_refuses():
    """What the class itself refuses is told without the value, which the cause holds."""
    with pytest.raises(ContextError) as caught:
        decode('{"Picky":{"port":11}}', Picky)

    assert str(caught.value) == "Picky refuses it with ValueError @ Picky"
    assert "must be < 10" in str(caught.value.__cause__)


@attrs.frozen
class Listening:
    """Fields that are sockets."""

    first: socket.socket
    again: socket.socket
    other: socket.socket | None = None


def test_a_socket_arrives_as_its_descriptor():
    """Sockets travel as numbers, each told once, and arrive as sockets of these, which no started program inherits."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socketpair()[0] as other:
        other.setblocking(False)
        line, descriptors = encode(Listening(listener, listener, other))
        assert descriptors == (listener.fileno(), other.fileno())
        for number in descriptors:
            os.set_inheritable(number, True)

        arrived = decode(line, Listening)

        try:
            assert arrived.first is arrived.again
            assert arrived.first.getsockname() == listener.getsockname()
            assert arrived.first.getblocking()
            assert not arrived.other.getblocking()
            assert not any(map(os.get_inheritable, descriptors))
        finally:
            arrived.first.detach()
            arrived.other.detach()


def test_a_closed_socket_is_refused():
    """A socket that is closed is refused before it is sent."""
    listener = socket.socket()
    listener.close()

    assert refused(Listening(listener, listener)) == "the socket is closed @ Listening.first"


@attrs.frozen
class Sealed(WorkerContext):
    """A context that becomes text in its own way, and uses the common one for it."""

    secret: str
    listener: socket.socket | None = None

    def encode_to_string(self):
        """The text."""
        return super().encode_to_string().replace("l", "\n")

    @classmethod
    def decode_from_string(cls, text):
        """What it was."""
        return super().decode_from_string(text.replace("\n", "l"))


@attrs.frozen
class Fleet:
    """A field that becomes text in its own way."""

    sealed: tuple[Sealed, ...]


def test_a_class_may_write_itself():
    """A class that overrides how it becomes text is asked for it, also inside others, and its sockets are seen."""
    assert encode(Sealed("hello")) == (r'{"Sealed":"{\"Sea\ned\":{\"secret\":\"he\n\no\",\"\nistener\":nu\n\n}}"}', ())
    assert travelled(Fleet((Sealed("hello"), Sealed("")))) == Fleet((Sealed("hello"), Sealed("")))
    with socket.socket() as listener:
        assert encode(Fleet((Sealed("", listener),)))[1] == (listener.fileno(),)


class Plain(WorkerContext):
    """No fields at all, but text."""

    def encode_to_string(self):
        """The text."""
        return "plain"

    @classmethod
    def decode_from_string(cls, text):
        """What it was."""
        if text != "plain":
            raise RuntimeError(text)
        return cls()


class Half(WorkerContext):
    """Writes what it cannot read."""

    def encode_to_string(self):
        """The text."""
        return ""


class Wrong(Plain):
    """Reads something else than it wrote."""

    def encode_to_string(self):
        """The text."""
        return 3

    @classmethod
    def decode_from_string(cls, text):
        """What it was."""
        return text


def test_a_class_that_writes_itself_needs_no_fields():
    """Any class can be sent that says how."""
    assert type(travelled(Plain())) is Plain


def test_a_class_that_writes_itself_is_held_to_it():
    """What such a class does wrong is told."""
    assert "Half overrides only one of encode_to_string and decode_from_string" in refused(Half())
    assert "encode_to_string returned no str but int" in refused(Wrong())
    with pytest.raises(ContextError, match="decode_from_string returned no Wrong but str"):
        decode('{"Wrong":"text"}', Wrong)
    with pytest.raises(ContextError, match="Plain refuses it with RuntimeError"):
        decode('{"Plain":"text"}', Plain)


def test_the_common_way_to_become_text():
    """A WorkerContext has text by itself, which says its class and has no options for the interpreter."""

    @attrs.frozen
    class Web(WorkerContext):
        port: int

    assert Web(1).encode_to_string() == '{"Web":{"port":1}}'
    assert Web.decode_from_string('{"Web":{"port":1}}') == Web(1)
    assert Web(1).interpreter_options() == ()
    with pytest.raises(ContextError, match="the context is of type Red; expected Web"):
        Web.decode_from_string('{"Red":{"depth":1}}')
