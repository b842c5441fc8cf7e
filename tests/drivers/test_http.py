"""The HTTP of a probe: what is asked, and what is understood of the answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import __version__
from reconciler.core.serving import HttpCheck
from reconciler.drivers import http

VALUES = {"name": "web", "index": "2", "key": "web-2", "port:http": "8000"}


def fed(*pieces):
    """The status after these pieces."""
    answer = http.Answer()
    for piece in pieces:
        status = answer.feed(piece)
        if status is not None:
            return status
    return None


# -------------------------------------------------------------------------------------------------------- the request


def test_the_request():
    """A request says whom it asks, who asks, and that it wants one answer only."""
    assert (
        http.request(HttpCheck(address="", path="/ready?full=1"), "127.0.0.1:80", VALUES)
        == (
            f"GET /ready?full=1 HTTP/1.1\r\nHost: 127.0.0.1:80\r\nUser-Agent: reconciler/{__version__}\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n"
        ).encode()
    )


def test_headers_replace_the_usual_ones():
    """A header of the check takes the place of one that every probe has, whatever its case; others are added."""
    check = HttpCheck(address="", headers={"hOsT": "{name}.example", "USER-AGENT": "me", "X-Key": "{key} {{}}"})

    lines = http.request(check, "127.0.0.1:80", VALUES).decode().split("\r\n")

    expected = ["hOsT: web.example", "USER-AGENT: me", "Accept: */*", "Connection: close", "X-Key: web-2 {}"]
    assert expected == lines[1:-2]


def test_a_unix_socket_has_a_host_too():
    """A server behind a Unix socket is asked as localhost, since a request without a host is a bad one."""
    assert b"\r\nHost: localhost\r\n" in http.request(HttpCheck(address=""), "unix:/run/web.sock", VALUES)


def test_the_path_is_made_fit_for_a_request_line():
    """Placeholders of a path are filled in, and letters that no request line may have are encoded."""
    check = HttpCheck(address="", path="/{name}/grün%20")

    assert http.request(check, "h:1", VALUES | {"name": "a b\r\n"}).startswith(
        b"GET /a%20b%0D%0A/gr%C3%BCn%20 HTTP/1.1"
    )


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\0b"])
def test_a_value_makes_no_second_header(value):
    """A placeholder whose value would add a line to the request is refused."""
    with pytest.raises(ValueError, match="the header X-Name would have the value"):
        http.request(HttpCheck(address="", headers={"X-Name": "{name}"}), "h:1", VALUES | {"name": value})


# --------------------------------------------------------------------------------------------------------- the answer


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"HTTP/1.1 200 OK\r\n", 200),
        (b"HTTP/1.0 302 Found\r\nLocation: /\r\n\r\n", 302),
        (b"HTTP/1.1 204\r\n", 204),
        (b"HTTP/1.1 503 \xff\xfe\n", 503),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 101),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n", 200),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\nHTTP/1.1 500 Oh\r\n", 500),
    ],
)
def test_the_status(data, status):
    """The status is known with its line; interim answers before it are passed over, with their headers."""
    assert fed(data) == status
    assert fed(*(data[at : at + 1] for at in range(len(data)))) == status
    assert fed(data[: data.rindex(b"HTTP") + 11]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01",
        b"HTTP/2 200\r\n",
        b"HTTP/1.1 20\r\n",
        b"HTTP/1.1 2000 OK\r\n",
        b"HTTP/1.1 \xb2\xb2\xb2 OK\r\n",
        b"HTTP/1.1  200 OK\r\n",
        b"HTTP/1.1200 OK\r\n",
        b"HTTP/1.1 -20 OK\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nwhat\r\n",
        b"+PONG",
    ],
)
def test_what_is_no_http(data):
    """What is no HTTP/1 is told, with its beginning, as soon as that is plain, and however it comes."""
    with pytest.raises(ValueError, match="the answer is not HTTP/1: it begins with '"):
        fed(data)
    with pytest.raises(ValueError, match="the answer is not HTTP/1: it begins with '"):
        fed(*(data[at : at + 1] for at in range(len(data))))


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 200 " + b"x" * 10_000],
        [b"HTTP/1.1 103 Hints\r\n", *[b"Link: x\r\n" * 100] * 100],
        [b"HTTP/1.1 103 Hints\r\n", *[b"x" * 1000] * 100],
        [b"HTTP/1.1 100 Continue\r\n\r\n" * 100] * 100,
    ],
    ids=["status line", "headers", "header", "interim answers"],
)
def test_an_endless_answer_is_cut(pieces):
    """An answer whose status does not come within bounds is given up."""
    with pytest.raises(ValueError, match=r"no HTTP status in the first \d+ bytes of the answer"):
        fed(*pieces)


@given(st.lists(st.binary(max_size=40), max_size=20), st.sampled_from([b"", b"HTTP/1.1 ", b"HTTP/1.1 100 C\r\n"]))
def test_it_does_not_matter_how_an_answer_is_cut(pieces, start):
    """An answer that comes in pieces is understood as if it came at once."""

    def outcome(*pieces):
        try:
            return fed(*pieces)
        except ValueError:
            return "wrong"

    assert outcome(start, *pieces) == outcome(start + b"".join(pieces))


def test_an_answer_that_ends_too_soon():
    """A connection that is closed before the status is told as such, with how much had come."""
    answer = http.Answer()
    assert str(answer.end()) == "the connection was closed without an answer"
    answer.feed(b"HTTP/1.1 ")
    assert str(answer.end()) == "the connection was closed after 9 bytes, without an HTTP status"


@pytest.mark.parametrize(("status", "good"), [(199, False), (200, True), (302, True), (399, True), (400, False)])
def test_statuses_that_count(status, good):
    """By default 200 to 399 are a success."""
    assert http.is_success(HttpCheck(address=""), status) is good


def test_statuses_that_are_named():
    """Where the check names statuses, those alone are a success."""
    check = HttpCheck(address="", status=(401, 204))
    assert [status for status in range(100, 600) if http.is_success(check, status)] == [204, 401]
