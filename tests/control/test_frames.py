"""What is a frame, what answers it, and what is refused."""

import json
import socket
from contextlib import suppress

import pytest
from control.desk import frame
from hypothesis import given
from hypothesis import strategies as st

from reconciler.control import wire
from reconciler.control.wire import LONGEST_FRAME, Lines, Refusal


def test_a_request_is_done(desk):
    """A request is answered by one frame with its id and what ended it."""
    assert desk.ask(frame("echo", id=7, args={"a": [1, "ü"]})) == [{"id": 7, "done": {"a": [1, "ü"]}}]


def test_items_come_before_the_end(desk):
    """Items come one to a frame, in order, each with the id; then the end."""
    frames = desk.ask(frame("count", id="x", args={"to": 100}))
    assert [got["item"]["number"] for got in frames[:-1]] == list(range(100))
    assert frames[-1] == {"id": "x", "done": {}}
    assert {got["id"] for got in frames} == {"x"}


def test_an_item_may_be_made_already(desk):
    """Bytes of a handler go into the frame as they are."""
    assert desk.ask(frame("raw"))[0] == {"id": None, "item": {"made": "already"}}


@pytest.mark.parametrize("given", ["text", 3, 2.5, True, None])
def test_an_id_is_any_scalar(desk, given):
    """Each scalar comes back as it was."""
    assert desk.ask(frame("echo", id=given)) == [{"id": given, "done": {}}]


def test_args_may_be_left_out(desk):
    """A request without arguments needs no empty ones."""
    assert desk.ask(b'{"v":1,"verb":"echo"}\r\n') == [{"id": None, "done": {}}]


BAD = {
    b"[1]": "BadRequest",
    b"3": "BadRequest",
    b'{"v":1,"v":1,"verb":"echo"}': "BadRequest",
    b'{"v":1,"verb":"echo","args":{"a":{"b":1,"b":2}}}': "BadRequest",
    b'{"verb":"echo"}': "WrongVersion",
    b'{"v":2,"verb":"echo"}': "WrongVersion",
    b'{"v":true,"verb":"echo"}': "WrongVersion",
    b'{"v":1.0,"verb":"echo"}': "WrongVersion",
    b'{"v":1}': "BadRequest",
    b'{"v":1,"verb":null}': "BadRequest",
    b'{"v":1,"verb":"echo","args":[]}': "BadRequest",
    b'{"v":1,"verb":"echo","args":null}': "BadRequest",
    b'{"v":1,"verb":"echo","arg":{}}': "BadRequest",
    b'{"v":1,"verb":"echo","id":[]}': "BadRequest",
    b'{"v":1,"verb":"echo","id":{}}': "BadRequest",
    b'{"v":1,"verb":"echo","id":"%b"}' % (b"x" * 200): "BadRequest",
    b'{"v":1,"verb":"__class__"}': "UnknownVerb",
    b'{"v":1,"verb":"count","args":{"to":"3"}}': "BadArgument",
}


@pytest.mark.parametrize("line", BAD)
def test_a_bad_request_is_refused(desk, line):
    """What is JSON but no request is one error frame with a code; the next request is answered."""
    with desk.client() as client:
        desk.send(client, line + b"\n")
        (refused,) = desk.answer(client)
        assert refused["error"].keys() == {"code", "message", "hint"}
        assert refused["error"]["code"] == BAD[line]
        desk.send(client, frame("echo", id=2))
        assert desk.answer(client) == [{"id": 2, "done": {}}]


BROKEN = [
    b"",
    b"{",
    b"get web",
    b"\x00",
    b"\xff\xfe{\x00}\x00",
    b'{"v":1,"verb":"\xff"}',
    b'\xef\xbb\xbf{"v":1,"verb":"echo"}',
    b'{"v":1,"verb":"echo","args":{"a":NaN}}',
    b'{"v":1,"verb":"echo","args":{"a":-Infinity}}',
    b'{"v":1,"verb":"echo","args":{"a":1e999}}',
    b'{"v":1,"verb":"echo","args":{"a":%b}}' % (b"9" * 5000),
    b'{"v":1,"verb":"echo","args":{"a":"\\ud800"}}',
    b"[" * 60000,
    b'{"v":1,"verb":"echo"} {"v":1,"verb":"echo"}',
]


@pytest.mark.parametrize("line", BROKEN)
def test_what_is_no_json_ends_the_connection(desk, line):
    """What is no JSON is one error frame, and then the connection is closed: nothing after it is carried out."""
    with desk.client() as client:
        desk.send(client, line + b"\n" + frame("echo"))
        (refused,) = desk.everything(client)
        assert refused["error"]["code"] == "NotJson"
        assert refused["id"] is None


def padded(size):
    """A request of so many bytes, its newline included."""
    empty = len(frame("echo", args={"a": ""}))
    return frame("echo", args={"a": "x" * (size - empty)})


def test_the_longest_frame(desk):
    """A frame of just the longest length is taken, whatever else comes behind it."""
    data = padded(LONGEST_FRAME)
    assert len(data) == LONGEST_FRAME
    with desk.client() as client:
        desk.send(client, data + frame("echo", id=2))
        client.shutdown(socket.SHUT_WR)
        first, second = desk.everything(client)
    assert len(first["done"]["a"]) > LONGEST_FRAME - 100
    assert second == {"id": 2, "done": {}}


@pytest.mark.parametrize("size", [LONGEST_FRAME + 1, 3 * LONGEST_FRAME])
def test_a_frame_that_is_too_long(desk, size):
    """A frame one byte longer is one error frame, and then the connection is closed."""
    with desk.client() as client:
        with suppress(BrokenPipeError, ConnectionResetError):  # it may be hung up on before its end
            desk.send(client, padded(size))
        (refused,) = desk.everything(client)
        assert refused["error"]["code"] == "TooLong"


@pytest.mark.parametrize("args", [{}, {"last": True}])
def test_an_answer_that_is_too_long(desk, args):
    """An answer with a frame that is too long ends with an error, and is no fault of ours."""
    assert desk.code(frame("big", args=args)) == "TooLong"
    assert desk.errors == []


def test_a_message_is_cut(desk):
    """However long a message is, its frame is not too long."""
    told = wire.error(b"1", Refusal("Long", "\U0001f600" * 100000, "\0" * 100000))
    assert len(told) < LONGEST_FRAME
    assert json.loads(told)["error"]["code"] == "Long"


@pytest.mark.parametrize(("data", "error"), [(frame("fail"), RuntimeError), (frame("odd"), TypeError)])
def test_a_fault_of_ours_is_told(desk, data, error):
    """An exception of a handler is an error for its client, which goes on, and is told to us."""
    with desk.client() as client:
        desk.send(client, data + frame("echo"))
        assert desk.receive(client).count(b'"Internal"') == 1
    assert [type(found) for found in desk.errors] == [error]


def test_a_fault_in_the_midst(desk):
    """What was said before a handler failed has been said; what it failed of is not."""
    frames = desk.ask(frame("fail", args={"late": True}))
    assert frames[0]["item"] == {"good": "so far"}
    assert frames[1]["error"]["code"] == "Internal"
    assert "fault of ours" not in str(frames)


def test_wrong_arguments_of_a_handler(desk):
    """A handler that cannot even be called is a fault of ours as well."""
    assert desk.code(frame("count", args={"nonsense": 1})) == "Internal"
    assert [type(found) for found in desk.errors] == [TypeError]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200)))
def test_lines_do_not_depend_on_how_they_come(data, cuts):
    """However the bytes are split, the same lines come out, and the same is left."""
    lines, found, last = Lines(), [], 0
    for cut in [*sorted(cuts), len(data)]:
        lines.feed(data[last:cut])
        last = max(last, cut)
        while (line := lines.pop()) is not None:
            found.append(line)
    assert found == data.split(b"\n")[:-1]
    assert wire.LONGEST_FRAME - lines.room == len(data.split(b"\n")[-1])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.text(max_size=50), st.dictionaries(st.text(), JSON))
def test_what_a_client_sends_is_what_comes(verb, args):
    """A request comes out as it went in."""
    line = wire.request(verb, args)
    assert line.count(b"\n") == 1
    assert wire.request_of(wire.parse(line[:-1])) == (verb, args)


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_line_is_a_request_or_refused(line):
    """Whatever a line is, it is a request or a Refusal, and no other error."""
    with suppress(Refusal):
        asked = wire.request_of(wire.parse(line))
        assert isinstance(asked.verb, str)
