"""Events for the devices of a profile."""

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """``id`` is ``<ms>-<sequence>``, ``facts`` are JSON."""

    id: str
    kind: str
    facts: bytes


class RecentEvents(msgspec.Struct, frozen=True, kw_only=True):
    """Events that follow an id, oldest first. Unless ``is_complete``, older ones may be missing."""

    events: tuple[Event, ...]
    is_complete: bool
