"""A household answered from the rule book: what a service must say, as values and instants only.

It holds one child and knows nothing of caches, counters, tokens or HTTP. Instants inside are UTC ms; those in answers
are counted from the scenario's start.
"""

from collections.abc import Mapping

import msgspec

from app.conformance.document import Body, Call, Child, Expectation, Numbers
from app.domain.accounting import NO_CLAIM, Beat, Live, Outcome, Recorded, Rules, Status, cold, in_day, record
from app.domain.config import Config, ConfigChange
from app.domain.enforcement import ALLOWED, Decision, decide
from app.domain.offline import DayUse, OfflineInterval, Part, counted_until_ms, credited, settle
from app.domain.policy import MINUTE_MS, UNLIMITED, DayTerms, Grant, OfflineUse, Policy, terms_of
from app.domain.viewing_day import DAY_MS, Calendar, ViewingDay

SETTLED_MS = 7 * DAY_MS
"""How long before a scenario its child got its settings, so that they shape the day it begins in."""
_FIRST_RESET_HOUR = 6


class _Session(msgspec.Struct, kw_only=True):
    """A session that was issued, with what it was credited so far."""

    issued_ms: int
    last_beat_ms: int
    total_ms: int = 0


class _Refusal(Exception):
    def __init__(self, status: int, code: str, **facts: object) -> None:
        self.answer = Expectation(status, {"code": code, **facts})


_DENIED = (403, "profile_access_denied")


class Model:
    """One child of one household.

    Args:
        child: who watches.
        starts_ms: start of the scenario.
        titles: whether each title of the catalogue is educational.
        numbers: settings of the deployment.
    """

    def __init__(self, child: Child, *, starts_ms: int, titles: Mapping[str, bool], numbers: Numbers) -> None:
        self._starts_ms = starts_ms
        self._titles = titles
        self._numbers = numbers
        self._rules = Rules(
            max_gap_ms=numbers.max_gap_seconds * 1000, pause_grace_ms=numbers.pause_grace_seconds * 1000
        )
        self._sessions: dict[str, _Session] = {}
        self._grants: dict[str, Grant] = {}
        self._revoked: set[str] = set()
        self._batches: dict[str, tuple[int, ...]] = {}
        self._offline: dict[int, OfflineUse] = {}
        self._parts: list[Part] = []
        self._live: Live | None = None
        self._policy_version = 0
        self._config: Config | None = None
        if child.settings is not None:
            settled_ms = starts_ms - SETTLED_MS
            first = _first_config(child.timezone, at_ms=settled_ms)
            self._config = first.changed(_change(child.settings), at_ms=settled_ms)
        self._policy = self._policy_now()

    def answer(self, call: Call, send: Body, *, at_ms: int) -> Expectation:
        """What must be answered to a call, ``at_ms`` after the start. Calls come in the order of their instants."""
        answers = {
            "beat": self._beat,
            "end": self._end,
            "balance": self._balance,
            "eligible": self._eligible,
            "sync": self._sync,
            "settings": self._save_settings,
            "grant": self._give,
            "revoke": self._revoke,
        }
        try:
            return answers[call](send, self._starts_ms + at_ms)
        except _Refusal as refusal:
            return refusal.answer

    # --- players

    def _beat(self, send: Body, at_ms: int) -> Expectation:
        session_id = send.get("session_id", "")
        is_educational = self._titles.get(send["title_id"])
        if is_educational is None and not session_id:
            raise _Refusal(404, "title_unknown")
        if session_id and session_id not in self._sessions:
            raise _Refusal(*_DENIED)
        new_id = f"$s{len(self._sessions) + 1}"
        if self._config is None:
            session_id = session_id or new_id
            self._sessions.setdefault(session_id, _Session(issued_ms=at_ms, last_beat_ms=at_ms))
            return self._adult_answer(session_id, is_educational=bool(is_educational))
        outcome, terms = self._count(send, at_ms, session_id=session_id, new_id=new_id)
        if outcome.status != Status.OK:
            code = "session_superseded" if outcome.status == Status.SUPERSEDED else "session_ended"
            by = {"device_type": outcome.by_device_type}
            raise _Refusal(409, code, by=by, at=self._instant(outcome.ended_ms))
        is_exempt = bool(is_educational) and self._config.educational_exempt
        soonest, latest = self._decisions(at_ms, terms, outcome.used_ms, is_exempt=is_exempt)
        body = {
            "session_id": outcome.session_id,
            "enforcement": soonest.enforcement,
            "remaining_seconds": _seconds(soonest.remaining_ms),
            "used_seconds": _seconds(outcome.used_ms + self._offline_use(terms).used_ms),
            "is_educational": bool(is_educational),
            "stop_at": self._instant(soonest.stop_at_ms),
            "next_beat_in": {"from": _seconds(soonest.next_beat_ms), "to": _seconds(latest.next_beat_ms)},
            "lease_seconds": _seconds(soonest.lease_ms),
            "next_reset_at": self._instant(terms.ends_ms),
            "config_version": self._config.version,
        }
        return Expectation(200, body)

    def _end(self, send: Body, at_ms: int) -> Expectation:
        session_id = send["session_id"]
        session = self._sessions.get(session_id)
        if session is None:
            raise _Refusal(*_DENIED)
        ended_ms = session.issued_ms
        if self._config is not None:
            outcome, _ = self._count(send, at_ms, session_id=session_id, is_end=True)
            ended_ms = outcome.ended_ms if outcome.status == Status.OK else session.last_beat_ms
        body = {
            "session_id": session_id,
            "total_seconds": _seconds(session.total_ms),
            "ended_at": self._instant(ended_ms),
        }
        return Expectation(200, body)

    def _balance(self, _: Body, at_ms: int) -> Expectation:
        if self._config is None:
            return Expectation(200, _ADULT_BALANCE)
        live, terms = self._look(at_ms)
        decision, _latest = self._decisions(at_ms, terms, live.used_ms, is_exempt=False)
        granted_ms, offline = self._policy.granted_ms(terms.number), self._offline_use(terms)
        threshold = decision.enforcement.removeprefix("warning_")
        body = {
            "is_child_profile": True,
            "has_limits": self._config.weekday_limit_minutes is not None,
            "used_seconds": _seconds(live.used_ms + offline.used_ms),
            "educational_seconds": _seconds(live.educational_ms + offline.educational_ms),
            "overrun_seconds": _seconds(live.overrun_ms + offline.overrun_ms),
            "limit_minutes": None if terms.limit_ms == UNLIMITED else terms.limit_ms // MINUTE_MS,
            "granted_minutes": 0 if granted_ms == UNLIMITED else granted_ms // MINUTE_MS,
            "remaining_seconds": _seconds(decision.remaining_ms),
            "is_unlimited_override": granted_ms == UNLIMITED and terms.limit_ms != UNLIMITED,
            "enforcement": decision.enforcement,
            "day": terms.day.date.isoformat(),
            "next_reset_at": self._instant(terms.ends_ms),
            "warning_threshold_minutes": int(threshold) if threshold.isdecimal() else None,
        }
        return Expectation(200, body)

    def _eligible(self, send: Body, at_ms: int) -> Expectation:
        if self._config is None:
            return Expectation(200, {"eligible": True, "reason": "adult", "remaining_seconds": None})
        live, terms = self._look(at_ms)
        is_exempt = bool(self._titles.get(send["title_id"])) and self._config.educational_exempt
        decision, _ = self._decisions(at_ms, terms, live.used_ms, is_exempt=is_exempt)
        if decision.remaining_ms is None:
            reason = "unlimited"
        elif is_exempt:
            reason = "educational_exempt"
        else:
            reason = "within_limit" if decision.may_play else "limit_reached"
        body = {
            "eligible": decision.may_play,
            "reason": reason,
            "remaining_seconds": _seconds(decision.remaining_ms),
            "next_reset_at": self._instant(terms.ends_ms),
        }
        return Expectation(200, body)

    def _sync(self, send: Body, at_ms: int) -> Expectation:
        batch_id = send["batch_id"]
        if batch_id not in self._batches:
            self._batches[batch_id] = self._settle(send, at_ms)
        body = {
            "batch_id": batch_id,
            "credited_seconds": [_seconds(part_ms) for part_ms in self._batches[batch_id]],
            "tampered": False,
            "balance": self._balance({}, at_ms).body,
        }
        return Expectation(200, body)

    # --- parents

    def _save_settings(self, send: Body, at_ms: int) -> Expectation:
        config = self._child_config().changed(_change(send), at_ms=at_ms)
        self._config = config
        self._announce(at_ms)
        rule = config.calendar.pending(at_ms)
        pending = rule and {
            "timezone": rule.timezone,
            "reset_hour": rule.reset_hour,
            "effective_at": self._instant(rule.effective_ms),
        }
        return Expectation(200, {"version": config.version, "pending_change": pending})

    def _give(self, send: Body, at_ms: int) -> Expectation:
        name = f"$g{len(self._grants) + 1}"
        day = self._child_config().calendar.day_at(at_ms)
        self._grants[name] = Grant(day.number, send["minutes"])
        self._announce(at_ms)
        return Expectation(201, self._extra_time(name, send["minutes"], day, at_ms))

    def _revoke(self, send: Body, at_ms: int) -> Expectation:
        name = send["grant_id"]
        self._revoked.add(name)
        self._announce(at_ms)
        day = self._child_config().calendar.day_at(at_ms)
        return Expectation(200, self._extra_time(name, self._grants[name].minutes, day, at_ms))

    def _extra_time(self, name: str, minutes: int | None, day: ViewingDay, at_ms: int) -> Body:
        live, terms = self._look(at_ms)
        is_unlimited = terms.allowance_ms == UNLIMITED
        remaining_ms = None if is_unlimited else max(0, terms.allowance_ms - live.used_ms)
        return {
            "grant_id": name,
            "granted_minutes": minutes,
            "day": day.date.isoformat(),
            "remaining_seconds": _seconds(remaining_ms),
            "is_unlimited_override": is_unlimited and terms.limit_ms != UNLIMITED,
        }

    # --- counting

    def _count(
        self, send: Body, at_ms: int, *, session_id: str, new_id: str = "", is_end: bool = False
    ) -> tuple[Outcome, DayTerms]:
        live = self._live or self._cold(at_ms)
        days = self._days(live.day, at_ms)
        session = self._sessions.get(session_id)
        beat = Beat(
            session_id=session_id,
            new_session_id=new_id,
            proof_ms=0 if session is None else session.issued_ms,
            title_id=send.get("title_id", ""),
            is_educational=int(self._titles.get(send.get("title_id", ""), False)),
            is_exempt=int(self._child_config().educational_exempt),
            is_paused=int(send.get("is_paused", False)),
            is_end=int(is_end),
            watched_ms=round(send["watched_seconds"] * 1000) if "watched_seconds" in send else NO_CLAIM,
            device_id=send.get("device_id", ""),
            device_type=send.get("device_type", "web"),
            policy_version=self._policy.version,
            days=days,
            synced=self._policy.synced,
        )
        recorded = record(live, beat, at_ms=at_ms, rules=self._rules)
        self._remember(recorded, at_ms)
        return recorded.outcome, days[-1]

    def _remember(self, recorded: Recorded, at_ms: int) -> None:
        self._live = recorded.live
        for state in (*recorded.closed, recorded.live):
            if state is not None and state.session_id:
                session = self._sessions.setdefault(
                    state.session_id, _Session(issued_ms=at_ms, last_beat_ms=state.last_beat_ms)
                )
                session.total_ms, session.last_beat_ms = state.session_total_ms, state.last_beat_ms

    def _look(self, at_ms: int) -> tuple[Live, DayTerms]:
        """The counters as they stand, those of a new day if one has begun, and the terms of that day."""
        live = self._live or self._cold(at_ms)
        terms = self._days(live.day, at_ms)[-1]
        return (live if live.day_number == terms.number else in_day(live, terms)), terms

    def _cold(self, at_ms: int) -> Live:
        terms = self._terms(self._child_config().calendar.day_at(at_ms))
        return cold(terms=terms, policy_version=self._policy.version, at_ms=at_ms)

    def _settle(self, send: Body, at_ms: int) -> tuple[int, ...]:
        live, terms = self._look(at_ms)
        intervals = [
            OfflineInterval(
                starts_ms=self._starts_ms + sent["started_at"]["at_ms"],
                ends_ms=self._starts_ms + sent["ended_at"]["at_ms"],
                watched_ms=round(sent["watched_seconds"] * 1000),
                is_exempt=bool(self._titles.get(sent["title_id"])) and self._child_config().educational_exempt,
            )
            for sent in send["intervals"]
        ]
        watched = [(session.issued_ms, session.last_beat_ms) for session in self._sessions.values()]
        if live.session_id:
            until_ms = counted_until_ms(live, at_ms=at_ms, max_gap_ms=self._rules.max_gap_ms)
            watched.append((live.session_started_ms, until_ms))

        def use_of(day: ViewingDay) -> DayUse:
            is_running = day.number == terms.number
            return DayUse(self._terms(day).allowance_ms, live.used_ms if is_running else 0)

        settlement = settle(
            intervals,
            covered=[*(part.stretch for part in self._parts), *watched],
            day_at=self._child_config().calendar.day_at,
            use_of=use_of,
        )
        self._parts += settlement.parts
        for use in settlement.by_day:
            known = self._offline.get(use.day_number, OfflineUse(use.day_number))
            self._offline[use.day_number] = known.plus(use)
        self._announce(at_ms)
        return settlement.credited_ms

    # --- policy

    def _child_config(self) -> Config:
        if self._config is None:
            raise ValueError("an adult has no settings")
        return self._config

    def _policy_now(self) -> Policy:
        self._policy_version += 1
        config = self._config
        return Policy(
            profile_id="",
            account_id="",
            version=self._policy_version,
            is_kids=config is not None,
            config_version=config.version if config else 0,
            weekday_limit_minutes=config.weekday_limit_minutes if config else None,
            weekend_limit_minutes=config.weekend_limit_minutes if config else None,
            educational_exempt=config is not None and config.educational_exempt,
            warning_minutes=config.warning_minutes if config else (),
            calendar=config.calendar if config else None,
            grants=tuple(grant for name, grant in self._grants.items() if name not in self._revoked),
            offline=tuple(self._offline.values()),
            synced=credited(self._parts),
        )

    def _announce(self, at_ms: int) -> None:
        """A change acts at once on the running day, whether or not anybody watches."""
        self._policy = self._policy_now()
        terms = self._terms(self._child_config().calendar.day_at(at_ms))
        if self._live is not None:
            self._live.policy_version = self._policy.version
            if self._live.day_number == terms.number:
                self._live.limit_ms, self._live.allowance_ms = terms.limit_ms, terms.allowance_ms

    def _days(self, running: ViewingDay, at_ms: int) -> list[DayTerms]:
        days = self._child_config().calendar.days_after(running, until_ms=at_ms) or [running]
        return [self._terms(day) for day in days]

    def _terms(self, day: ViewingDay) -> DayTerms:
        return terms_of(self._policy, day, weekend_days=self._numbers.weekend_days)

    def _offline_use(self, terms: DayTerms) -> OfflineUse:
        return self._policy.offline_use(terms.number)

    def _decisions(self, at_ms: int, terms: DayTerms, used_ms: int, *, is_exempt: bool) -> tuple[Decision, Decision]:
        """The decision with the shortest and with the longest interval that jitter allows."""
        config = self._child_config()
        [following] = config.calendar.days_after(terms.day, until_ms=terms.ends_ms)

        def decision(jitter: int) -> Decision:
            return decide(
                at_ms=at_ms,
                used_ms=used_ms,
                allowance_ms=terms.allowance_ms,
                is_exempt=is_exempt,
                day_ends_ms=terms.ends_ms,
                next_allowance_ms=self._terms(following).allowance_ms,
                warning_minutes=config.warning_minutes,
                interval_ms=self._interval_ms(jitter),
                longest_lease_ms=self._numbers.lease_seconds * 1000,
            )

        return decision(-1), decision(1)

    def _interval_ms(self, jitter: int) -> int:
        """The regular interval with the whole of its jitter taken off (-1) or put on (1)."""
        return round(self._numbers.beat_interval_seconds * 1000 * (1 + jitter * self._numbers.beat_jitter))

    # --- words

    def _adult_answer(self, session_id: str, *, is_educational: bool) -> Expectation:
        body = {
            "session_id": session_id,
            "enforcement": ALLOWED,
            "remaining_seconds": None,
            "used_seconds": 0,
            "is_educational": is_educational,
            "stop_at": None,
            "next_beat_in": {"from": _seconds(self._interval_ms(-1)), "to": _seconds(self._interval_ms(1))},
            "lease_seconds": self._numbers.lease_seconds,
            "next_reset_at": None,
            "config_version": None,
        }
        return Expectation(200, body)

    def _instant(self, at_ms: int | None) -> dict[str, int] | None:
        return None if at_ms is None else {"at_ms": at_ms - self._starts_ms}


_ADULT_BALANCE: Body = {
    "is_child_profile": False,
    "has_limits": False,
    "used_seconds": 0,
    "educational_seconds": 0,
    "overrun_seconds": 0,
    "limit_minutes": None,
    "granted_minutes": 0,
    "remaining_seconds": None,
    "is_unlimited_override": False,
    "enforcement": ALLOWED,
    "day": None,
    "next_reset_at": None,
    "warning_threshold_minutes": None,
}


def _first_config(timezone: str, *, at_ms: int) -> Config:
    """What a new child has until its parent decides."""
    return Config(
        version=1,
        weekday_limit_minutes=120,
        weekend_limit_minutes=180,
        reset_hour=_FIRST_RESET_HOUR,
        timezone=timezone,
        educational_exempt=True,
        warning_minutes=(15, 5),
        limits_reviewed=False,
        calendar=Calendar.opened(at_ms, timezone=timezone, reset_hour=_FIRST_RESET_HOUR),
    )


def _change(settings: Body) -> ConfigChange:
    return msgspec.convert(settings, ConfigChange)


def _seconds(ms: int | None) -> float | None:
    """Whole seconds as an integer, as JSON reads best."""
    return None if ms is None else ms // 1000 if ms % 1000 == 0 else ms / 1000
