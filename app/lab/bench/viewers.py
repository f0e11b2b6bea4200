"""The viewers of a run, with their requests prepared in a file.

A generator that builds requests takes CPU time from the service on the same machine. Each viewer's heartbeat is
therefore complete in a slot of one file, which all generators map into memory. Only changing parts (session, pause,
claimed time) are overwritten in place, with values of equal length. A second file holds one state byte per viewer. The
load marks sessions that it ended and opened again. The look-up of sessions (see ``sessions``) writes the new id into
the slot and resets the state.
"""

import mmap
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from enum import IntEnum
from hashlib import blake2b
from multiprocessing import get_context
from pathlib import Path
from uuid import UUID

from app.auth.tokens import Role, Tokens
from app.lab.bench.plan import THREADS

CHUNK = 5_000
WORTH_PROCESSES = 50_000
PROCESSES = 2
TITLES = 200
EDUCATIONAL_TITLES = TITLES // 10
DEVICE_TYPES = ("tv", "mobile", "tablet", "web")
HEARTBEAT = "/api/v1/viewing-time/heartbeat"
HOST = "hourglass.example"

NULL = b"null"
QUOTED_ID_LENGTH = 38
WATCHED_LENGTH = 9
DEVICE_TYPE_LENGTH = 8
ALIGNMENT = 64


class State(IntEnum):
    """The state of a viewer's session; ``load.lua`` uses the same numbers."""

    KNOWN = 0
    ENDED = 1
    OPENING = 2
    """Opened again, with an id that is not in the slot yet."""
    LEAVING = 3
    """Sends nothing more until its session is ended."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Byte offsets within a slot, equal for every viewer and passed to ``load.lua`` in this order."""

    slot: int
    length: int
    token_at: int
    token_length: int
    session_at: int
    paused_at: int
    watched_at: int
    body_at: int

    @property
    def numbers(self) -> tuple[int, ...]:
        numbers: tuple[int, ...] = astuple(self)
        return numbers


@dataclass(frozen=True, kw_only=True)
class Viewers:
    """The files of a run's viewers: ``requests`` and ``states``."""

    requests: Path
    states: Path
    layout: Layout
    count: int

    def forget_sessions(self) -> None:
        """Let every viewer begin with an opening heartbeat again."""
        with self.mapped() as mapped:
            for viewer in range(self.count):
                mapped.put_session(viewer, "", watched_seconds=0)
                mapped.states[viewer] = State.KNOWN

    @contextmanager
    def mapped(self) -> Iterator["Mapped"]:
        """Both files in memory, shared with the generators that map them."""
        with (
            self.requests.open("r+b") as requests_file,
            self.states.open("r+b") as states_file,
            mmap.mmap(requests_file.fileno(), 0) as slots,
            mmap.mmap(states_file.fileno(), 0) as states,
        ):
            yield Mapped(self.layout, slots, states)


class Mapped:
    """Reads and changes slots in place."""

    def __init__(self, layout: Layout, slots: mmap.mmap, states: mmap.mmap) -> None:
        self.layout = layout
        self._slots = slots
        self.states = states

    def request(self, viewer: int) -> bytes:
        """The heartbeat in the slot."""
        start = viewer * self.layout.slot
        return self._slots[start : start + self.layout.length]

    def session(self, viewer: int) -> str:
        """The session id in the slot, empty for an opening heartbeat."""
        start = viewer * self.layout.slot + self.layout.session_at
        return self._slots[start : start + QUOTED_ID_LENGTH].decode().strip(' "').replace("null", "")

    def put_session(self, viewer: int, session_id: str, *, watched_seconds: float) -> None:
        start = viewer * self.layout.slot
        at = start + self.layout.session_at
        self._slots[at : at + QUOTED_ID_LENGTH] = _quoted(session_id) if session_id else _null()
        at = start + self.layout.watched_at
        self._slots[at : at + WATCHED_LENGTH] = _watched(watched_seconds)


def profile_id(viewer: int) -> str:
    return _uuid(b"profile %d" % viewer)


def account_id(viewer: int) -> str:
    return _uuid(b"account %d" % viewer)


def title_id(number: int) -> str:
    """The first `EDUCATIONAL_TITLES` titles are educational."""
    return f"title-{number:05}"


def title_of(viewer: int) -> str:
    """One viewer in ten watches an educational title."""
    if viewer % 10 == 0:
        return title_id(viewer // 10 % EDUCATIONAL_TITLES)
    return title_id(EDUCATIONAL_TITLES + (viewer - viewer // 10) % (TITLES - EDUCATIONAL_TITLES))


def prepare(
    folder: Path, count: int, tokens: Tokens, *, at_s: int, life_seconds: int, advance: Callable[[int], None]
) -> Viewers:
    """Write the files. Every viewer has its own token and starts with an opening heartbeat.

    ``advance`` receives the number of new viewers.
    """
    _, layout = request_of(0, _token(tokens, 0, at_s=at_s, life_seconds=life_seconds))
    viewers = Viewers(requests=folder / "requests", states=folder / "states", layout=layout, count=count)
    with viewers.requests.open("wb") as requests, viewers.states.open("wb") as states:
        requests.truncate(count * layout.slot)
        states.truncate(count + THREADS)  # flags of the load's threads that are done
    chunks = [range(first, min(first + CHUNK, count)) for first in range(0, count, CHUNK)]
    if count < WORTH_PROCESSES:
        for chunk in chunks:
            advance(_write(viewers, chunk, tokens, at_s, life_seconds))
        return viewers
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        writing = [pool.submit(_write, viewers, chunk, tokens, at_s, life_seconds) for chunk in chunks]
        for written in as_completed(writing):
            advance(written.result())
    return viewers


def request_of(viewer: int, token: str) -> tuple[bytes, Layout]:
    """An opening heartbeat as a player sends it, with the offsets of its parts."""
    device_type = DEVICE_TYPES[viewer % len(DEVICE_TYPES)]
    fields = {
        "profile_id": _quoted(profile_id(viewer)),
        "title_id": _quoted(title_of(viewer)),
        "device_id": _quoted(blake2b(b"device %d" % viewer, digest_size=8).hexdigest()),
        "session_id": _null(),
        "is_paused": b"false",
        "watched_seconds": _watched(0),
        "device_type": _quoted(device_type).ljust(DEVICE_TYPE_LENGTH),
    }
    body = b"{%b}" % b",".join(_quoted(name) + b":" + value for name, value in fields.items())
    headers = {
        "Host": HOST,
        "User-Agent": "HourglassPlayer/1.0",
        "Accept": "application/json",
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
    }
    head = f"POST {HEARTBEAT} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = head.encode() + b"\r\n" + body
    layout = Layout(
        slot=-(-len(request) // ALIGNMENT) * ALIGNMENT,
        length=len(request),
        token_at=request.index(token.encode()),
        token_length=len(token),
        session_at=_after(request, b'"session_id":'),
        paused_at=_after(request, b'"is_paused":'),
        watched_at=_after(request, b'"watched_seconds":'),
        body_at=len(request) - len(body),
    )
    return request, layout


def _write(viewers: Viewers, chunk: range, tokens: Tokens, at_s: int, life_seconds: int) -> int:
    slots = bytearray()
    for viewer in chunk:
        request, layout = request_of(viewer, _token(tokens, viewer, at_s=at_s, life_seconds=life_seconds))
        if layout != viewers.layout:
            raise ValueError(f"the request of viewer {viewer} has another shape")
        slots += request.ljust(layout.slot)
    with viewers.requests.open("r+b") as file:
        file.seek(chunk.start * viewers.layout.slot)
        file.write(slots)
    return len(chunk)


def _token(tokens: Tokens, viewer: int, *, at_s: int, life_seconds: int) -> str:
    return tokens.issue(account_id=account_id(viewer), role=Role.HOUSEHOLD, at_s=at_s, life_seconds=life_seconds)


def _uuid(name: bytes) -> str:
    return str(UUID(bytes=blake2b(name, digest_size=16).digest(), version=4))


def _quoted(text: str) -> bytes:
    return b'"%b"' % text.encode()


def _null() -> bytes:
    return NULL.ljust(QUOTED_ID_LENGTH)


def _watched(seconds: float) -> bytes:
    return f"{seconds:.1f}".encode().ljust(WATCHED_LENGTH)


def _after(request: bytes, text: bytes) -> int:
    return request.index(text) + len(text)
