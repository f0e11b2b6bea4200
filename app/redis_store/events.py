"""Events of a child's devices: the most recent ones in one small string per profile, and a message that wakes streams.

A Redis stream would keep 4 KB for the first event. Half a million children who were blocked once must not cost 2 GB.
"""

from collections.abc import Mapping
from typing import cast
from uuid import UUID

import msgspec
from redis.asyncio import Redis

from app.domain.events import Event, RecentEvents
from app.redis_store.client import translate_errors
from app.redis_store.keys import INVALIDATE, Keys
from app.redis_store.scripts import Script

LIFE_MS = 3_600_000
"""How long after the last event a stream can resume without asking for the balance anew."""
MAX_BYTES = 190
"""With the key and what the server needs for both, an idle child's events stay below 300 bytes."""
_UUID_LENGTH = 36
_STR8 = 0xD9
_CODES = {"viewing_time_updated": "u", "blocked": "b", "session_superseded": "s", "request_answered": "r"}
"""Kinds as they are kept; any other kind is kept by its name."""
_KINDS = {code: kind for kind, code in _CODES.items()}

_Id = tuple[int, int]
_Entry = tuple[int, int, str, msgspec.Raw]

_pack = msgspec.msgpack.Encoder(uuid_format="bytes").encode
_unpack = msgspec.msgpack.Decoder().decode
_unpack_parts = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_unpack_number = msgspec.msgpack.Decoder(int).decode
_unpack_entry = msgspec.msgpack.Decoder(_Entry).decode


class RedisEvents:
    """Events by profile, resumable by id, bounded in bytes and age.

    Attributes:
        at_ms: the instant at which events happen; 0 takes the server's clock, as in service.
    """

    def __init__(self, redis: Redis, keys: Keys, *, at_ms: int = 0) -> None:
        self._redis = redis
        self._keys = keys
        self._append = Script("append_event")
        self._read = Script("read_events")
        self.at_ms = at_ms

    async def add(
        self,
        profile_id: str,
        kind: str,
        facts: Mapping[str, object],
        *,
        at_ms: int,  # noqa: ARG002  ids are by the server's clock, whoever tells of the event
    ) -> None:
        """Append an event and wake the streams of the profile. Raises CountersUnavailable."""
        packed = _pack(_pack_ids(facts)) if facts else b""
        arguments = (_CODES.get(kind, kind), packed, LIFE_MS, MAX_BYTES, self.at_ms, INVALIDATE, f"event:{profile_id}")
        with translate_errors():
            await self._append(self._redis, (self._keys.events(profile_id),), arguments)

    async def latest_id(self, profile_id: str) -> str:
        """The id after which events are yet to come. Raises CountersUnavailable."""
        now_ms, _, entries = await self._recent(profile_id)
        return _text(_id_of(entries[-1]) if entries else (max(0, now_ms - 1), 0))

    async def after(self, profile_id: str, event_id: str) -> RecentEvents:
        """Events that follow an id, oldest first. Raises CountersUnavailable."""
        now_ms, kept_after, entries = await self._recent(profile_id)
        ms, _, sequence = event_id.partition("-")
        cursor = (int(ms), int(sequence))
        newest = _id_of(entries[-1]) if entries else kept_after
        if cursor > newest and cursor[0] > now_ms:  # the clock fell, and the key that held ids up was lost
            cursor = (-1, 0)
        return RecentEvents(
            events=tuple(_event(entry) for entry in entries if _id_of(entry) > cursor),
            is_complete=cursor >= kept_after,
        )

    async def _recent(self, profile_id: str) -> tuple[int, _Id, list[_Entry]]:
        """The instant, the id up to which events may be missing, and those that are kept."""
        with translate_errors():
            answer = await self._read(self._redis, (self._keys.events(profile_id),), (self.at_ms,))
        now_ms, *raw = cast("tuple[int, bytes]", answer)
        if not raw or raw[0] is None:
            return now_ms, (max(0, now_ms - LIFE_MS), 0), []
        ms, sequence, *entries = _unpack_parts(raw[0])
        return now_ms, (_unpack_number(ms), _unpack_number(sequence)), [_unpack_entry(entry) for entry in entries]


def _id_of(entry: _Entry) -> _Id:
    return entry[:2]


def _text(event_id: _Id) -> str:
    return f"{event_id[0]}-{event_id[1]}"


def _event(entry: _Entry) -> Event:
    _, _, kind, facts = entry
    packed = _bytes_of(facts)
    unpacked = msgspec.json.encode(_unpack_ids(_unpack(packed))) if packed else b"{}"
    return Event(id=_text(_id_of(entry)), kind=_KINDS.get(kind, kind), facts=unpacked)


def _bytes_of(raw: msgspec.Raw) -> bytes:
    """The bytes of a MessagePack string. Lua scripts have no other type for bytes, so they need not be text."""
    first, *_ = packed = bytes(raw)
    if first < _STR8:
        return packed[1:]  # shorter than 32 bytes
    return packed[2:] if first == _STR8 else packed[3:]


def _pack_ids(value: object) -> object:
    """The same facts with ids as bytes, which take half the room."""
    if isinstance(value, Mapping):
        return {name: _pack_ids(member) for name, member in value.items()}
    if isinstance(value, str) and len(value) == _UUID_LENGTH:
        try:
            known = UUID(value)
        except ValueError:
            return value
        return known if str(known) == value else value
    return value


def _unpack_ids(value: object) -> object:
    """What ``_pack_ids`` was given."""
    if isinstance(value, dict):
        return {name: _unpack_ids(member) for name, member in value.items()}
    return str(UUID(bytes=value)) if isinstance(value, bytes) else value
