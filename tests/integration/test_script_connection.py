"""Script calls share a connection: each gets its own reply or an error, whatever the server does."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, InvalidResponse, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.embedded.valkey import Valkey
from app.errors import CountersUnavailable
from app.lab.clusters import free_ports
from app.redis_store import script_connection
from app.redis_store.client import create_client, translate_errors
from app.redis_store.scripts import send
from tests.clusters import SentinelServers
from tests.servers import DEBIAN_REDIS, Cache, reachable_folder, running_valkey

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
"""The loop of the tests and that of a deployment: their transports differ."""
TIMEOUT_SECONDS = 0.2
PATIENCE_SECONDS = 20.0
HANG, CLOSE = "hang", "close"
Chunks = Sequence[bytes | float | str]
"""What a server sends for a command: bytes, pauses in seconds, HANG for no more, CLOSE for the end."""


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(text), text)


class ScriptedServer:
    """Answers the handshake as Redis does, and ECHO as ``reply_to`` says.

    Attributes:
        connections: how many were opened for commands.
    """

    def __init__(self, reply_to: Callable[[bytes], Chunks]) -> None:
        self.reply_to = reply_to
        self.connections = 0
        self._port = 0
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ScriptedServer"]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving)

    def _accept(self, stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.create_task(self._serve(stream, writer)))

    async def _serve(self, stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = hiredis.Reader()
        is_counted = False
        try:
            while data := await stream.read(65536):
                commands.feed(data)
                while (command := commands.gets()) is not False:
                    if command[0] == b"ECHO":
                        self.connections += not is_counted
                        is_counted = True
                        await self._send(self.reply_to(command[1]), writer)
                    else:
                        await self._send([b":0\r\n" if command[0] == b"PUBLISH" else b"+OK\r\n"], writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _send(self, chunks: Chunks, writer: asyncio.StreamWriter) -> None:
        for chunk in chunks:
            if chunk == HANG:
                await asyncio.Event().wait()
            elif chunk == CLOSE:
                raise ConnectionResetError
            elif isinstance(chunk, float):
                await asyncio.sleep(chunk)
            elif writer.is_closing():  # the client has gone away: uvloop refuses to write then
                raise ConnectionResetError
            elif isinstance(chunk, bytes):
                writer.write(chunk)
                await writer.drain()


@asynccontextmanager
async def client(url: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> AsyncIterator[Redis]:
    redis = create_client(url, timeout_seconds=timeout_seconds, connections=2)
    try:
        yield redis
    finally:
        await redis.aclose()


async def echo(redis: Redis, text: bytes) -> object:
    return await send(redis, ("ECHO", text), key="")


async def run(redis: Redis, script: str) -> object:
    return await send(redis, ("EVAL", script, 0), key="")


async def until_answered(redis: Redis) -> None:
    """Wait for the breaker to close and the server to answer."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                await echo(redis, b"again")
            except RedisError:
                await asyncio.sleep(0.02)
            else:
                return


@pytest.fixture(params=["valkey", "redis7"])
def server(request: pytest.FixtureRequest) -> Valkey:
    found: Valkey = request.getfixturevalue(request.param)
    return found


async def test_calls_of_one_tick_share_a_connection_and_get_their_own_replies(server: Valkey) -> None:
    async with client(server.url, timeout_seconds=5) as redis, client(server.url) as other:
        texts = [b"%d" % number * (number % 50 + 1) for number in range(500)]
        assert await asyncio.gather(*(echo(redis, text) for text in texts)) == texts
        assert len([found for found in await other.client_list() if found["cmd"] == "echo"]) == 1


@pytest.mark.parametrize("reply", [bulk(b"one\r\ntwo"), b"*2\r\n:1\r\n" + bulk(b"x"), b"-ERR no\r\n", b"$-1\r\n"])
async def test_a_reply_may_be_cut_at_every_byte(reply: bytes) -> None:
    expected = hiredis.Reader()
    expected.feed(reply)
    wanted = expected.gets()
    cuts = iter(range(len(reply) + 1))

    def cut(_: bytes) -> Chunks:
        at = next(cuts)
        return [reply[:at], 0.002, reply[at:]]

    async with ScriptedServer(cut).running() as server, client(server.url, timeout_seconds=5) as redis:
        answers = await asyncio.gather(*(echo(redis, b"") for _ in range(len(reply) + 1)), return_exceptions=True)
        assert {str(answer) for answer in answers} == {str(wanted).removeprefix("ERR ")}


async def test_a_late_reply_is_nobodys() -> None:
    """All calls of the connection fail when one is not answered in time; the next ones use another connection."""
    late = iter([True])

    def reply(text: bytes) -> Chunks:
        return [TIMEOUT_SECONDS * 2, bulk(text)] if next(late, False) else [bulk(text)]

    async with ScriptedServer(reply).running() as server, client(server.url) as redis:
        answers = await asyncio.gather(*(echo(redis, b"%d" % n) for n in range(5)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [RedisTimeoutError] * 5
        await until_answered(redis)
        await asyncio.sleep(TIMEOUT_SECONDS * 2)
        assert [await echo(redis, b"%d" % n) for n in range(5)] == [b"%d" % n for n in range(5)]
        assert server.connections == 2


async def test_a_cancelled_call_disturbs_no_other() -> None:
    """Its reply comes all the same, and is thrown away."""
    gate = asyncio.Event()

    def reply(text: bytes) -> Chunks:
        return [0.05, bulk(text)]

    async with ScriptedServer(reply).running() as server, client(server.url, timeout_seconds=5) as redis:
        await echo(redis, b"open")
        calls = [asyncio.create_task(echo(redis, b"%d" % n)) for n in range(4)]
        await asyncio.sleep(0)
        calls[1].cancel()
        gate.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [answers[0], *answers[2:]] == [b"0", b"2", b"3"]
        assert isinstance(answers[1], asyncio.CancelledError)
        assert server.connections == 1


DEEDS = st.sampled_from(["answer", "slow", "split", "error", "hang", "close", "half", "garbage"])


@settings(max_examples=40)
@given(deeds=st.lists(DEEDS, min_size=1, max_size=12), cancelled=st.sets(st.integers(0, 11)))
async def test_no_call_ever_gets_anothers_reply(deeds: list[str], cancelled: set[int]) -> None:
    pending = iter(deeds)

    def reply(text: bytes) -> Chunks:
        whole = bulk(text)
        chunks: dict[str, Chunks] = {
            "answer": [whole],
            "slow": [0.02, whole],
            "split": [whole[:3], 0.001, whole[3:]],
            "error": [b"-ERR " + text + b"\r\n"],
            "hang": [HANG],
            "close": [CLOSE],
            "half": [whole[:4], CLOSE],
            "garbage": [b"?what\r\n", whole],
        }
        return chunks[next(pending, "answer")]

    async def call(redis: Redis, text: bytes) -> None:
        try:
            assert await echo(redis, text) == text
        except ResponseError as error:
            assert str(error) in {text.decode(), f"ERR {text.decode()}"}  # noqa: PT017  either may come
        except RedisError:
            pass

    async with ScriptedServer(reply).running() as server, client(server.url, timeout_seconds=0.1) as redis:
        calls = [asyncio.create_task(call(redis, b"call%d" % place)) for place in range(12)]
        await asyncio.sleep(0.005)
        for place in cancelled:
            calls[place].cancel()
        async with asyncio.timeout(PATIENCE_SECONDS):
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome
            await until_answered(redis)


@pytest.mark.parametrize(
    ("said", "raised"),
    [
        ([b"?what\r\n"], InvalidResponse),
        ([b"$1000\r\n" + b"x" * 600], InvalidResponse),
        ([CLOSE], RedisConnectionError),
        ([b"+one\r\n+unasked\r\n"], None),
    ],
)
async def test_a_connection_that_makes_no_sense_is_given_up(
    said: Chunks, raised: type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script_connection, "MAX_REPLY_BYTES", 500)
    sense = iter([False])

    def reply(text: bytes) -> Chunks:
        return [bulk(text)] if next(sense, True) else said

    async with ScriptedServer(reply).running() as server, client(server.url) as redis:
        if raised is None:
            assert await echo(redis, b"one") == b"one"
        else:
            with pytest.raises(raised):
                await echo(redis, b"one")
        await asyncio.sleep(0.01)
        assert await echo(redis, b"two") == b"two"
        assert server.connections == 2


async def test_a_server_that_stands_still_is_left_alone_until_it_answers(server: Valkey) -> None:
    async with client(server.url) as redis:
        await echo(redis, b"open")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            answers = await asyncio.gather(*(echo(redis, b"%d" % n) for n in range(50)), return_exceptions=True)
            assert {type(answer) for answer in answers} == {RedisTimeoutError}
            with pytest.raises(RedisConnectionError, match="waiting for the server"):
                await echo(redis, b"refused")
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await until_answered(redis)


async def test_a_server_that_is_restarted_is_found_again() -> None:
    with running_valkey() as server:
        async with client(server.url, timeout_seconds=5) as redis:
            for _ in range(3):
                await echo(redis, b"before")
                server.kill9()
                with pytest.raises(RedisConnectionError):
                    await echo(redis, b"while it is away")
                server.start()
                assert await echo(redis, b"after") == b"after"


async def test_calls_under_way_fail_when_the_server_dies() -> None:
    with running_valkey() as server:
        async with client(server.url, timeout_seconds=5) as redis:
            await echo(redis, b"before")
            os.kill(server.pid, signal.SIGSTOP)
            calls = [asyncio.create_task(echo(redis, b"%d" % n)) for n in range(5)]
            await asyncio.sleep(0.05)
            server.kill9()
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(answer) for answer in answers} == {RedisConnectionError}


async def test_a_refusal_concerns_its_own_call(server: Valkey) -> None:
    async with client(server.url, timeout_seconds=5) as redis:
        answers = await asyncio.gather(
            echo(redis, b"one"),
            run(redis, "return redis.call('NONSENSE')"),
            echo(redis, b"two"),
            return_exceptions=True,
        )
        assert [answers[0], answers[2]] == [b"one", b"two"]
        assert isinstance(answers[1], ResponseError)


async def test_a_server_that_loads_its_file_is_unavailable() -> None:
    loading = iter([True])

    def reply(text: bytes) -> Chunks:
        return [b"-LOADING Redis is loading the dataset in memory\r\n"] if next(loading, False) else [bulk(text)]

    async with ScriptedServer(reply).running() as server, client(server.url) as redis:
        with pytest.raises(CountersUnavailable) as caught, translate_errors():
            await echo(redis, b"")
        assert isinstance(caught.value.__cause__, BusyLoadingError)
        assert await echo(redis, b"loaded") == b"loaded"


@pytest.mark.parametrize(
    "refusal", [b"-READONLY You can't write against a read only replica.\r\n", b"-ERR script: -READONLY no\r\n"]
)
async def test_after_a_read_only_reply_the_address_is_asked_again(refusal: bytes) -> None:
    """Calls that were sent before it still get their replies from the old connection."""
    writable = iter([b"first", b"second"])

    def reply(text: bytes) -> Chunks:
        return [refusal] if next(writable, b"third") == b"second" else [0.01, bulk(text)]

    async with ScriptedServer(reply).running() as server, client(server.url) as redis:
        calls = [asyncio.create_task(echo(redis, text)) for text in (b"first", b"second", b"third")]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [answers[0], answers[2]] == [b"first", b"third"]
        assert isinstance(answers[1], RedisError)
        assert await echo(redis, b"fourth") == b"fourth"
        assert server.connections == 2


async def test_sentinel_is_asked_for_the_master_at_each_connection(sentinel: SentinelServers) -> None:
    async with client(sentinel.url, timeout_seconds=5) as redis:
        for _ in range(2):
            role: Any = await send(redis, ("ROLE",), key="")
            assert role[0] == b"master"
            await asyncio.to_thread(sentinel.master.ask, "CLIENT", "KILL", "TYPE", "normal")
            await asyncio.sleep(0.05)


async def test_credentials_name_and_database_are_those_of_the_address() -> None:
    with running_valkey(options={"user": "beats on >secret ~* &* +@all"}) as server:
        address = f"{server.url.replace('unix://', 'unix://beats:secret@')}?db=3&client_name=hourglass"
        async with client(address, timeout_seconds=5) as redis:
            found = await send(redis, ("CLIENT", "INFO"), key="")
            assert isinstance(found, bytes)
            words = dict(word.split("=", 1) for word in found.decode().split())
            assert (words["user"], words["name"], words["db"]) == ("beats", "hourglass", "3")
        async with client(server.url.replace("unix://", "unix://beats:wrong@")) as redis:
            with pytest.raises(RedisConnectionError, match="invalid username-password"):
                await echo(redis, b"")


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a server with TLS, and its certificate."""
    if not DEBIAN_REDIS.exists():
        pytest.skip("redis-server is not installed, and the server of the wheel has no TLS")
    key, found = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(  # noqa: S603
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(found)),
        ],
        check=True,
        capture_output=True,
    )
    port = free_ports(1)[0]
    options = {
        "tls-port": str(port),
        "bind": "127.0.0.1",
        "tls-auth-clients": "no",
        "tls-cert-file": str(found),
        "tls-key-file": str(key),
        "tls-ca-cert-file": str(found),
    }
    with reachable_folder() as folder:
        for file in (key, found):
            file.chmod(0o644)
        tmp_path.chmod(0o755)
        server = Cache(folder / "redis", binary=DEBIAN_REDIS, options=options)
        server.start()
        try:
            yield f"rediss://127.0.0.1:{port}", found
        finally:
            server.stop()


async def test_calls_are_encrypted_where_the_address_says_so(encrypted: tuple[str, Path]) -> None:
    url, certificate = encrypted
    async with client(f"{url}?ssl_ca_certs={certificate}", timeout_seconds=5) as redis:
        texts = [b"%d" % number * 300 for number in range(200)]
        assert await asyncio.gather(*(echo(redis, text) for text in texts)) == texts
        await send(redis, ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"), key="")
        await asyncio.sleep(0.05)
        assert await echo(redis, b"again") == b"again"
    async with client(url, timeout_seconds=5) as redis:
        with pytest.raises(RedisConnectionError, match="certificate verify failed"):
            await echo(redis, b"")


async def test_closing_the_client_fails_what_is_under_way() -> None:
    async with ScriptedServer(lambda _: [HANG]).running() as server:
        redis: Any = create_client(server.url, timeout_seconds=5, connections=1)
        call = asyncio.create_task(echo(redis, b""))
        await asyncio.sleep(0.05)
        await redis.aclose()
        with pytest.raises(RedisConnectionError):
            await call
