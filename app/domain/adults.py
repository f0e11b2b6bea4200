"""Running sessions of adults. Nothing is counted for them; only title and device are kept."""

import msgspec


class AdultBeat(msgspec.Struct, frozen=True, gc=False):
    """A heartbeat of an adult, or the end of its session, which names no title."""

    profile_id: str
    session_id: str
    title_id: str = ""
    device_type: str = ""
    is_end: bool = False


class AdultSession(msgspec.Struct, frozen=True, gc=False):
    """A running session of an adult, with the instant (ms) of its last beat."""

    session_id: str
    title_id: str
    device_type: str
    last_beat_ms: int
