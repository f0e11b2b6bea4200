"""What is known of adults who watch: nothing is counted, and of a running session only what and where it plays."""

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
