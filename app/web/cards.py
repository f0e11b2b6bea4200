"""What a page shows of a child's running day, read from the services; and of what was granted and asked for."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from app.domain.breaks import BREAK
from app.domain.enforcement import WEEKLY_LIMIT
from app.domain.grants import ExtraTimeRequest, GrantEntry, RequestStatus
from app.domain.opening_hours import WINDOW
from app.domain.profile import Profile
from app.viewing.schemas import BalanceAnswer, Stream, WhyAnswer
from app.web.visit import Visit

OFFERED = (15, 30, 60)
_NEWEST = 20
_SHOWN_SECONDS = 60


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A child right now. Durations are seconds; ``remaining_s`` None is unlimited."""

    profile: Profile
    why: WhyAnswer
    state: str
    """``watching``, ``paused``, ``blocked`` or ``idle``."""
    sentence: str
    notes: tuple[str, ...] = ()
    """What else changed the child's time today, a sentence each."""
    is_free: bool = False
    """Whether what it watches uses no time: an educational title, where these are exempt."""
    title_id: str = ""
    title: str | None = None
    device_type: str = ""
    since: str = ""

    @property
    def remaining_s(self) -> float | None:
        """What remains now, if the child watches: less than at its last beat."""
        left = self.why.remaining_seconds
        return left if left is None else max(0.0, left - self._since_beat_s)

    @property
    def stop_at(self) -> datetime | None:
        """When playback stops if it goes on."""
        left = self.remaining_s
        return None if left is None else datetime.fromisoformat(self.why.decided_at) + timedelta(seconds=left)

    @property
    def _since_beat_s(self) -> float:
        if not self.is_ticking or self.why.session is None:
            return 0.0
        last_beat, now = (datetime.fromisoformat(at) for at in (self.why.session.last_beat_at, self.why.decided_at))
        return max(0.0, (now - last_beat).total_seconds())

    @property
    def allowance_s(self) -> float | None:
        return allowance_s(self.why)

    @property
    def share_left(self) -> float:
        """How much of the ring is full, 0 to 1."""
        if self.remaining_s is None:
            return 1.0
        return min(1.0, self.remaining_s / self.allowance_s) if self.allowance_s else 0.0

    @property
    def is_blocked(self) -> bool:
        return self.why.enforcement == "blocked"

    @property
    def is_low(self) -> bool:
        return self.why.enforcement.startswith("warning")

    @property
    def is_ticking(self) -> bool:
        """Whether what remains gets less by the second."""
        return self.state == "watching" and self.why.remaining_seconds is not None and not self.is_free

    @property
    def paused_until(self) -> str | None:
        """When a parent's pause ends, None without one."""
        return self.why.paused_until

    @property
    def is_closed(self) -> bool:
        """Whether films do not play at this time."""
        return self.is_blocked and self.why.reason == WINDOW

    @property
    def is_break(self) -> bool:
        """Whether films do not play because a break goes on."""
        return self.is_blocked and self.why.reason == BREAK

    @property
    def is_before_break(self) -> bool:
        """Whether what remains ends with a break, after which the child may go on."""
        return not self.is_blocked and self.why.reason == BREAK

    @property
    def changes_at(self) -> datetime | None:
        """When the child may play again, if that is known: the page then shows something else."""
        at = self.why.available_again_at
        return None if at is None else datetime.fromisoformat(at)

    @property
    def zone(self) -> str:
        return self.why.day.timezone


class Grants(msgspec.Struct, frozen=True, kw_only=True):
    """The live grants of the running day and the requests of a child that are open."""

    today: tuple[GrantEntry, ...]
    open: tuple[ExtraTimeRequest, ...]


async def cards_of(visit: Visit, children: Iterable[Profile]) -> list[Card]:
    """The children of the household as they are now. Raises CountersUnavailable, DatabaseUnavailable."""
    viewing = visit.services.viewing
    children = list(children)
    streams = (await viewing.active_sessions.streams(visit.account_id)).streams if children else []
    running = {stream.profile_id: stream for stream in streams}
    return [await _card(visit, child, running) for child in children]


async def card_of(visit: Visit, child: Profile) -> Card:
    [card] = await cards_of(visit, [child])
    return card


async def _card(visit: Visit, child: Profile, running: Mapping[str, Stream]) -> Card:
    service = visit.services.viewing.service
    why = await service.why(visit.principal, child.id)
    stream = running.get(child.id)
    is_blocked = why.enforcement == "blocked"
    sentence, notes = _sentence(visit, child.name, why), _notes(visit, why)
    if stream is None:
        return Card(profile=child, why=why, sentence=sentence, notes=notes, state="blocked" if is_blocked else "idle")
    policy = (await service.owned(visit.principal, child.id)).policy
    is_free = why.session is not None and why.session.is_educational and policy.educational_exempt
    is_paused = why.session is not None and why.session.paused_since is not None
    return Card(
        profile=child,
        why=why,
        sentence=sentence,
        notes=notes,
        state="blocked" if is_blocked and not is_free else "paused" if is_paused else "watching",
        is_free=is_free,
        title_id=stream.title_id,
        title=await visit.services.console.title_names.get(stream.title_id),
        device_type=stream.device_type,
        since=stream.started_at,
    )


async def grants_of(visit: Visit, child: Profile, day: str) -> Grants:
    """Raises DatabaseUnavailable."""
    parents = visit.services.parents
    granted = await parents.grants.entries(account_id=visit.account_id, profile_id=child.id, day=None, most=_NEWEST)
    asked = await parents.requests.entries(account_id=visit.account_id, profile_id=child.id, most=_NEWEST)
    at_ms = visit.at_ms
    return Grants(
        today=tuple(entry for entry in granted if entry.day.isoformat() == day and entry.revoked_ms is None),
        open=tuple(request for request in asked if request.status_at(at_ms) is RequestStatus.OPEN),
    )


def allowance_s(why: WhyAnswer) -> float | None:
    """What the day allows in all, in seconds: what was used of it and what is left. None is unlimited."""
    if why.remaining_seconds is None or why.limit_seconds is None:
        return None
    return max(why.limit_seconds + why.granted_seconds - why.owed_seconds, why.remaining_seconds)


def _sentence(visit: Visit, name: str, why: WhyAnswer) -> str:
    """Why a child may not watch, or how long it still may, in one plain sentence."""
    words, t = visit.words, visit.t
    reset = words.moment(why.day.ends_at, why.day.timezone, now=visit.now)
    values: dict[str, Any] = {"name": name, "reset": reset, "used": words.duration(why.used_seconds)}
    if (closed := closed_sentence(visit, name, why, why.day.timezone)) is not None:
        return closed
    if why.is_unlimited_override:
        return t("%(name)s may watch without a limit until %(reset)s: a parent lifted it for today.") % values
    if why.remaining_seconds is None:
        return t("%(name)s may watch without a limit: none is set.") % values
    values["remaining"] = words.duration(why.remaining_seconds)
    values["allowance"] = words.duration(allowance_s(why) or 0)
    if why.enforcement != "blocked":
        return _going_on(visit, why) % values
    values["limit"] = words.duration(why.limit_seconds or 0)
    if why.granted_seconds:
        values["extra"] = words.duration(why.granted_seconds)
        return (
            t(
                "All %(allowance)s of today are used up, %(extra)s of extra time included."
                " There is new time from %(reset)s on."
            )
            % values
        )
    if why.limit_seconds is not None and why.used_seconds - why.borrowed_seconds >= why.limit_seconds + 60:
        return (
            t(
                "%(name)s has watched %(used)s, more than the %(limit)s allowed today."
                " There is new time from %(reset)s on."
            )
            % values
        )
    return t("All %(allowance)s of today are used up. There is new time from %(reset)s on.") % values


def _going_on(visit: Visit, why: WhyAnswer) -> str:
    """How long a child still may watch, and what ends it."""
    if why.reason == BREAK:
        return visit.t("%(name)s may watch %(remaining)s more, then a break is due.")
    if why.reason == WINDOW:
        return visit.t("%(name)s may watch %(remaining)s more, then films no longer play.")
    if why.reason == WEEKLY_LIMIT:
        return visit.t("%(name)s may watch %(remaining)s more: that is what is left of the week.")
    return visit.t("%(name)s may watch %(remaining)s more before %(reset)s.")


def closed_sentence(visit: Visit, name: str, answer: WhyAnswer | BalanceAnswer, zone: str) -> str | None:
    """Why nothing plays at this time, whatever is left of today; None where it does."""
    t, values = visit.t, {"name": name}
    if answer.paused_until is not None:
        values["until"] = visit.words.moment(answer.paused_until, zone, now=visit.now)
        return t("A parent paused %(name)s until %(until)s. Nothing plays until then.") % values
    if answer.enforcement != "blocked" or answer.reason not in {WINDOW, WEEKLY_LIMIT, BREAK}:
        return None
    if answer.reason == BREAK:
        said = t("%(name)s has watched for so long that a break is due.")
    elif answer.reason == WEEKLY_LIMIT:
        said = t("The limit of the whole week is used up.")
    else:
        said = t("Films do not play at this time.")
    if answer.available_again_at is not None:
        values["again"] = visit.words.moment(answer.available_again_at, zone, now=visit.now)
        said += " " + t("%(name)s may watch again from %(again)s on.")
    return said % values


def _notes(visit: Visit, why: WhyAnswer) -> tuple[str, ...]:
    """What a parent would not expect of a child's time today. Seconds are left out."""
    duration, notes = visit.words.duration, []
    if why.penalty_seconds >= _SHOWN_SECONDS:
        said = visit.t("%(time)s are taken off today: a device without a connection had a wrong clock.")
        notes.append(said % {"time": duration(why.penalty_seconds)})
    if why.covered_seconds >= _SHOWN_SECONDS:
        said = visit.t("Extra time also made up for %(time)s that were watched beyond the limit.")
        notes.append(said % {"time": duration(why.covered_seconds)})
    if why.borrowed_seconds >= 1:
        said = visit.t("A film was finished beyond the limit: the next day has %(time)s less.")
        notes.append(said % {"time": duration(why.borrowed_seconds)})
    if why.owed_seconds >= 1:
        said = visit.t("%(time)s are taken off today: they finished a film the day before.")
        notes.append(said % {"time": duration(why.owed_seconds)})
    if why.abandoned_sessions_charged:
        said = visit.t("Films were started and left again and again, so the time they were allowed to play counts.")
        notes.append(said)
    return tuple(notes)
