"""The words in which scenarios are written: who watches, and what happens when.

Instants are given in seconds after the start.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from app.conformance.document import CHILD, Body, Call, Child, VectorTitle
from app.domain.markets import ENFORCE

FILM = "conformance-film"
CARTOON = "conformance-cartoon"
LESSON = "conformance-lesson"
NOWHERE = "conformance-no-such-title"
TITLES = (
    VectorTitle(id=FILM, name="Conformance film", is_educational=False),
    VectorTitle(id=CARTOON, name="Conformance cartoon", is_educational=False),
    VectorTitle(id=LESSON, name="Conformance lesson", is_educational=True),
)

TV = {"device_id": "living-room", "device_type": "tv"}
TABLET = {"device_id": "kitchen", "device_type": "tablet"}
NEVER_ISSUED = "00000000-0000-8000-8000-000000000000"
MONDAY_NOON = "2026-03-02T12:00:00.000Z"


@dataclass(frozen=True, kw_only=True)
class Act:
    """A call and its instant."""

    at_ms: int
    call: Call
    send: Body


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A scenario without its answers."""

    name: str
    about: str
    acts: tuple[Act, ...]
    child: Child
    starts_at: str = MONDAY_NOON
    live: bool = False
    siblings: tuple[Child, ...] = ()


def child(
    weekday: int | None = 120,
    weekend: int | None = 180,
    *,
    timezone: str = "UTC",
    reset_hour: int = 6,
    exempt: bool = True,
    warnings: tuple[int, ...] = (15, 5),
    enforcement: str = ENFORCE,
    finish_minutes: int | None = None,
) -> Child:
    settings: Body = {
        "weekday_limit_minutes": weekday,
        "weekend_limit_minutes": weekend,
        "reset_hour": reset_hour,
        "educational_exempt": exempt,
        "warning_minutes": list(warnings),
    }
    if finish_minutes is not None:
        settings["finish_title_minutes"] = finish_minutes
    return Child(is_kids=True, timezone=timezone, settings=settings, enforcement=enforcement)


DAILY = child(120, 120)
"""The same limit on every day, for scenarios that may be replayed on any."""
ADULT = Child(is_kids=False, timezone="UTC", settings=None)


def beat(at: float, session: str | None = None, *, title: str = FILM, on: Body = TV, **fields: object) -> Act:
    send: Body = {"profile_id": CHILD, "title_id": title, **on}
    if session is not None:
        send["session_id"] = session
    return _act(at, "beat", send | fields)


def beats(instants: Iterable[float], session: str) -> tuple[Act, ...]:
    return tuple(beat(at, session) for at in instants)


def watches(instants: Iterable[float]) -> tuple[Act, ...]:
    """The first session of a scenario, from the start on, with beats at some instants."""
    return (beat(0), *beats(instants, "$s1"))


def pauses(instants: Iterable[float], session: str) -> tuple[Act, ...]:
    return tuple(beat(at, session, is_paused=True) for at in instants)


def end(at: float, session: str, **fields: object) -> Act:
    return _act(at, "end", {"session_id": session, **fields})


def balance(at: float, of: str | None = None) -> Act:
    return _act(at, "balance", {} if of is None else {"profile_id": of})


def co_viewer(profile: str, session: str | None = None, **fields: object) -> Body:
    """An entry of a heartbeat's ``co_viewers``."""
    return {"profile_id": profile} | ({} if session is None else {"session_id": session}) | fields


def eligible(at: float, title: str = FILM) -> Act:
    return _act(at, "eligible", {"title_id": title})


def settings(at: float, **fields: object) -> Act:
    return _act(at, "settings", fields)


def grant(at: float, minutes: int | None) -> Act:
    return _act(at, "grant", {"minutes": minutes})


def revoke(at: float, grant: str) -> Act:
    return _act(at, "revoke", {"grant_id": grant})


def sync(at: float, *ranges: tuple[float, float], batch: str = "batch-1", title: str = FILM) -> Act:
    """Offline playback from and until instants in seconds, all of it watched."""
    intervals = [
        {
            "title_id": title,
            "started_at": _instant(starts),
            "ended_at": _instant(ends),
            "watched_seconds": ends - starts,
        }
        for starts, ends in ranges
    ]
    send: Body = {
        "profile_id": CHILD,
        "device_id": TABLET["device_id"],
        "batch_id": batch,
        "device_now": _instant(at),
        "last_server_time": _instant(min(starts for starts, _ in ranges)),
        "intervals": intervals,
    }
    return _act(at, "sync", send)


def _act(at: float, call: Call, send: Body) -> Act:
    return Act(at_ms=round(at * 1000), call=call, send=send)


def _instant(at: float) -> dict[str, int]:
    return {"at_ms": round(at * 1000)}
