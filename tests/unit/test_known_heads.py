"""A connection that knows heads reads every stream of bytes as the parser alone does, however it is cut."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn import Config
from uvicorn.server import ServerState

from app.server.fast_path import FastPathProtocol
from app.server.known_heads import KnownHeads, ReadRequest
from app.viewing.endpoint import HEARTBEAT_PATH
from app.viewing.ports import ResponseWriter
from tests.scenes.heartbeats import Wire, without_ids

URL = HEARTBEAT_PATH.encode()


class Unknown(KnownHeads):
    """Knows nothing: the parser reads everything."""

    def find(self, data: bytes) -> ReadRequest | None:
        del data
        return None


class Application:
    """Takes down what reaches the endpoint of heartbeats, and answers everything else with 404."""

    body_limit_bytes = 4_096

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.waiting: list[ResponseWriter] = []

    def beat_choice(self) -> None:
        return None

    def take_beat(self) -> None:
        return None

    def fast_path(self) -> Callable[[bytes], Any]:
        return lambda url: self.begin if url == URL else None

    def begin(self, authorization: bytes | None, body: bytes, reply: ResponseWriter) -> None:
        self.seen.append((authorization, body))
        self.waiting.append(reply)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while scope["path"] != "/early":  # which answers before the body has come
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.seen.append((scope["method"], scope["path"], sorted(scope["headers"]), body))
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


async def read(chunks: Sequence[bytes], known_heads: KnownHeads) -> tuple[list[object], list[bytes], bool]:
    """What the endpoints got from a connection, what it answered, and whether it was closed."""
    application = Application()
    config = Config(application, http=FastPathProtocol, log_config=None, server_header=False, date_header=False)
    config.load()
    connection = FastPathProtocol(config, ServerState(), {})
    connection.known_heads = known_heads  # an attribute of this connection hides that of the class
    wire: Any = Wire()
    connection.connection_made(wire)
    for chunk in chunks:
        if wire.is_closed:
            break
        connection.data_received(chunk)
        for _ in range(8):
            await asyncio.sleep(0)
        for reply in application.waiting:
            reply.answer(b"{}")
        application.waiting.clear()
        for _ in range(8):
            await asyncio.sleep(0)
    connection.connection_lost(None)
    return application.seen, [without_ids(sent) for sent in wire.sent], wire.is_closed


def beat(
    body: bytes = b'{"a":1}',
    *lines: bytes,
    token: bytes = b"abc.DEF-1_2~3",
    length: bytes | None = None,
    first: bytes = b"POST " + URL + b" HTTP/1.1",
) -> bytes:
    length = str(len(body)).encode() if length is None else length
    head = [first, b"Host: h", b"Authorization: Bearer " + token, b"Content-Length: " + length, *lines, b"", b""]
    return b"\r\n".join(head) + body


USUAL = [beat(), beat(token=b"other"), beat(b'{"a":12}'), beat().replace(b"Authorization", b"authorization")]
HOSTILE = [
    beat(length=b"6"),
    beat(length=b"9"),
    beat(b"x" * 9, length=b"7"),
    beat(b"", b"Content-Length: 7"),
    beat(b'{"a":1}', b"Content-Length: 3"),
    beat(b"7\r\n" + b'{"a":1}' + b"\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"),
    b"POST " + URL + b' HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{"a":1}\r\n0\r\n\r\n',
    beat(b'{"a":1}', b"Transfer-Encoding: chunked"),
    beat(token=b"a\nX: y"),
    beat(token=b"a\rX: y"),
    beat(token=b"a b"),
    beat(token=b"a\0"),
    beat(token=b""),
    beat(b'{"a":1}', b"Authorization: Bearer second"),
    beat().replace(b"Host: h\r\n", b"AUTHORIZATION: Bearer first\r\n"),
    beat().replace(b"\r\nHost", b"\nHost"),
    beat(b'{"a":1}', b" folded"),
    beat(b'{"a":1}', b"Expect: 100-continue"),
    beat(b'{"a":1}', b"Origin: https://a.example"),
    beat(b'{"a":1}', b"Connection: close"),
    beat(b'{"a":1}', b"Connection: Upgrade", b"Upgrade: h2c"),
    beat(b'{"a":1}', b"X-Request-ID: mine"),
    beat(b'{"a":1}', b"traceparent: 00-" + b"1" * 32 + b"-" + b"1" * 16 + b"-01"),
    beat(first=b"POST " + URL + b" HTTP/1.0"),
    beat(first=b"PUT " + URL + b" HTTP/1.1"),
    beat(first=b"POST /other HTTP/1.1"),
    beat(beat(token=b"inner"), first=b"POST /other HTTP/1.1"),
    beat(beat(token=b"inner")),
    beat(b"x" * 5_000),
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" + beat(token=b"after"),
    b"\r\n" + beat(),
    b"\r\n",
    b"POST",
]


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


@pytest.fixture
def warm() -> KnownHeads:
    """Heads of usual requests are known."""
    heads = KnownHeads()

    async def send() -> None:
        for request in USUAL:
            await read([request], heads)

    asyncio.run(send())
    assert len(heads) == 3
    return heads


async def test_an_equal_head_is_read_without_the_parser() -> None:
    heads = KnownHeads()
    request = beat()
    assert heads.find(request) is None
    first = await read([request, request], heads)
    assert heads.find(beat(token=b"another")) == (b"Bearer another", b'{"a":1}')
    assert first[0] == [(b"Bearer abc.DEF-1_2~3", b'{"a":1}')] * 2
    assert first == await read([request, request], Unknown())


@pytest.mark.parametrize("request_bytes", HOSTILE, ids=range(len(HOSTILE)))
async def test_nothing_else_is_found_among_known_heads(request_bytes: bytes, warm: KnownHeads) -> None:
    before = len(warm)
    alone = await read([USUAL[0], request_bytes, USUAL[1]], Unknown())
    assert await read([USUAL[0], request_bytes, USUAL[1]], warm) == alone
    assert await read([USUAL[0], request_bytes, USUAL[1]], warm) == alone
    assert len(warm) <= before + 1


async def test_a_body_that_looks_like_a_heartbeat_is_a_body(warm: KnownHeads) -> None:
    """The answer came first, so the connection is idle, but the parser is not at the beginning of a request."""
    inner = beat(token=b"inner")
    early = beat(b"", length=str(len(inner)).encode(), first=b"POST /early HTTP/1.1")
    chunks = [USUAL[0], early, inner, USUAL[1]]
    alone = await read(chunks, Unknown())
    assert (b"Bearer inner", b'{"a":1}') not in alone[0]
    assert await read(chunks, warm) == alone


async def test_a_head_with_two_tokens_is_never_known() -> None:
    """The parser takes the first of both, in whatever case its field is written."""

    def twice(second: bytes) -> bytes:
        return beat(token=second).replace(b"Host: h\r\n", b"AUTHORIZATION: Bearer equal\r\n")

    heads = KnownHeads()
    chunks = [twice(b"equal"), twice(b"another")]
    assert (await read(chunks, heads))[0] == [(b"Bearer equal", b'{"a":1}')] * 2
    assert len(heads) == 0


async def test_a_body_in_chunks_is_left_to_the_parser(warm: KnownHeads) -> None:
    head = beat(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    whole, part = head + b'7\r\n{"a":1}\r\n0\r\n\r\n', head + b"2\r\nab\r\n"
    for chunks in ([whole, part], [whole, part, b"0\r\n\r\n"]):
        assert await read(chunks, warm) == await read(chunks, Unknown())


async def test_every_cut_of_two_requests_is_read_alike(warm: KnownHeads) -> None:
    data = USUAL[0] + USUAL[1]
    for place in range(len(data) + 1):
        chunks = cut(data, [place])
        assert await read(chunks, warm) == await read(chunks, Unknown()), place


@given(
    requests=st.lists(st.sampled_from([*USUAL, *USUAL, *USUAL, *HOSTILE]), min_size=1, max_size=6),
    places=st.lists(st.integers(0, 10_000), max_size=4),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=2),
    whole=st.booleans(),
)
@settings(max_examples=300, deadline=None)
async def test_any_stream_is_read_as_the_parser_reads_it(
    requests: list[bytes], places: list[int], changes: list[tuple[int, int]], whole: bool
) -> None:
    heads = KnownHeads()
    data = bytearray(b"".join(requests))
    for place, value in changes:
        data[place % len(data)] = value
    chunks = requests if whole else cut(bytes(data), places)
    alone = await read(chunks, Unknown())
    assert await read(chunks, heads) == alone  # learns
    assert await read(chunks, heads) == alone  # knows


async def test_the_oldest_head_leaves_first() -> None:
    heads = KnownHeads(size=2)
    for number in range(1, 5):
        body = b"x" * number
        heads.learn(beat(body), b"Bearer abc.DEF-1_2~3", body)
    assert [heads.find(beat(b"x" * number)) is not None for number in range(1, 5)] == [False, False, True, True]
