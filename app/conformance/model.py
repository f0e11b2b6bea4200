"""The conformance model: predicts the answers to one child's calls, as values and instants only.

It counts with the executable specification and answers with the functions of the service. It has no caches, tokens or
HTTP. Instants inside are UTC ms; instants in answers are ms after the start of the scenario.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple

import msgspec

from app.conformance.document import CHILD, Body, Call, Child, Expectation, Numbers, sibling
from app.domain.breaks import breaks_of
from app.domain.config import Config, ConfigChange
from app.domain.counters import (
    NO_CLAIM,
    Beat,
    Counted,
    Counters,
    Outcome,
    RecordResult,
    Rules,
    Status,
    carried_into,
    cold,
)
from app.domain.enforcement import ALLOWED, Decision, not_enforced, playable_always
from app.domain.finishing import FinishTerms, finish_of, less_owed
from app.domain.markets import ENFORCE, Market, Markets
from app.domain.offline import (
    DayUse,
    OfflineInterval,
    Part,
    TimeRange,
    counted_ranges,
    counted_until_ms,
    credited,
    settle,
)
from app.domain.opening_hours import opening_hours_of
from app.domain.past_terms import FOREVER_MS
from app.domain.policy import UNLIMITED, DayTerms, Grant, OfflineUse, Policy, exceeded_ms, terms_of
from app.domain.reference import apply_policy, record
from app.domain.viewing_day import DAY_MS, Calendar, ViewingDay
from app.domain.weekly import WeekTerms, cut, week_of
from app.errors import HourglassError
from app.parents.schemas import ViewingTimeChange
from app.timestamps import ms_of
from app.viewing.answers import (
    adult_balance_answer,
    adult_eligibility_answer,
    adult_heartbeat_answer,
    balance_answer,
    eligibility_answer,
    heartbeat_answer,
)
from app.viewing.beats import DecidedBeat
from app.viewing.co_viewing import joined
from app.viewing.effective_policy import EffectivePolicy, EffectivePolicyPool
from app.viewing.schemas import CoViewer, CoViewerAnswer, HeartbeatRequest

SETTLED_MS = 7 * DAY_MS
"""How long before a scenario its child got its settings, so that they shape the day it begins in."""
_FIRST_RESET_HOUR = 6
_WEEK_STARTS_ON = 0


class _Session(msgspec.Struct, kw_only=True):
    """An issued session and its credit so far."""

    issued_ms: int
    last_beat_ms: int
    total_ms: int = 0


class Refusal(Exception):
    def __init__(self, status: int, code: str, **facts: object) -> None:
        self.answer = Expectation(status, {"code": code, **facts})

    def as_error(self) -> HourglassError:
        """The refusal of a co-viewer: its problem holds what the kit compares."""
        return _Told(extra=self.answer.body)


class _Told(HourglassError):
    """A refusal whose problem is what the kit compares of it."""

    def problem(self) -> dict[str, object]:
        return self.extra


_DENIED = (403, "profile_access_denied")


class DecidedPair(NamedTuple):
    """A decided beat, with the shortest and with the longest interval that jitter allows."""

    soonest: DecidedBeat
    latest: DecidedBeat


class HouseholdModel:
    """The children of one household. Only beats with co-viewers concern several of them.

    Args:
        children: their settings; the first one is the child of the scenario.
        starts_ms: start of the scenario.
        titles: whether each title of the catalogue is educational.
        numbers: settings of the deployment.
    """

    def __init__(
        self, children: Sequence[Child], *, starts_ms: int, titles: Mapping[str, bool], numbers: Numbers
    ) -> None:
        issued: list[str] = []
        names = [CHILD, *(sibling(number) for number in range(2, len(children) + 1))]
        self._starts_ms = starts_ms
        self._models = {
            name: Model(child, starts_ms=starts_ms, titles=titles, numbers=numbers, issued=issued)
            for name, child in zip(names, children, strict=True)
        }

    def answer(self, call: Call, send: Body, *, at_ms: int) -> Expectation:
        """The expected answer to a call ``at_ms`` after the start. Calls come in the order of their instants."""
        if call == "beat" and send.get("co_viewers"):
            try:
                return self._beat_together(send, self._starts_ms + at_ms)
            except Refusal as refusal:
                return refusal.answer
        if call == "end":
            return self._end(send, at_ms)
        return self._models[send.get("profile_id", CHILD)].answer(call, send, at_ms=at_ms)

    def _end(self, send: Body, at_ms: int) -> Expectation:
        ended = self._model_with(send["session_id"]).answer("end", send, at_ms=at_ms)
        if not send.get("co_viewers"):
            return ended
        others = [self._model_with(each["session_id"]).answer("end", each, at_ms=at_ms) for each in send["co_viewers"]]
        return Expectation(ended.status, ended.body | {"co_viewers": [other.body for other in others]})

    def _model_with(self, session_id: str) -> "Model":
        return next((model for model in self._models.values() if model.has(session_id)), self._models[CHILD])

    def _beat_together(self, send: Body, at_ms: int) -> Expectation:
        model = self._models[send["profile_id"]]
        own = model.decided(send, at_ms)
        shared = {name: send[name] for name in send if name not in {"session_id", "watched_seconds", "co_viewers"}}
        others: list[DecidedPair | HourglassError] = []
        for named in send["co_viewers"]:
            try:
                others.append(self._models[named["profile_id"]].decided(shared | named, at_ms))
            except Refusal as refusal:
                others.append(refusal.as_error())
        request = HeartbeatRequest(
            send["profile_id"], send["title_id"], "", co_viewers=[CoViewer(**named) for named in send["co_viewers"]]
        )
        soonest, latest = (
            joined(request, own[place], [each if isinstance(each, HourglassError) else each[place] for each in others])
            for place in (0, 1)
        )
        expected = model.expectation(DecidedPair(soonest, latest))
        answer = soonest.answer
        entries = [model.told_of_co_viewer(entry) for entry in answer.co_viewers or ()]
        decided_by = {"decided_by": answer.decided_by} if answer.decided_by else {}
        return Expectation(200, expected.body | decided_by | {"co_viewers": entries})


class Model:
    """One child of one household.

    Args:
        child: the child's settings.
        starts_ms: start of the scenario.
        titles: whether each title of the catalogue is educational.
        numbers: settings of the deployment.
        issued: the names of all sessions of the household, in their order.
    """

    def __init__(
        self,
        child: Child,
        *,
        starts_ms: int,
        titles: Mapping[str, bool],
        numbers: Numbers,
        issued: list[str] | None = None,
    ) -> None:
        self._starts_ms = starts_ms
        self._titles = titles
        self._numbers = numbers
        self._rules = Rules(
            max_gap_ms=numbers.max_gap_seconds * 1000,
            pause_grace_ms=numbers.pause_grace_seconds * 1000,
            lease_ms=numbers.lease_seconds * 1000,
        )
        self._sessions: dict[str, _Session] = {}
        self._issued = [] if issued is None else issued
        self._counted: dict[tuple[str, int], list[TimeRange]] = {}
        """Where each session was counted on each day."""
        self._grants: dict[str, Grant] = {}
        self._revoked: set[str] = set()
        self._batches: dict[str, tuple[int, ...]] = {}
        self._offline: dict[int, OfflineUse] = {}
        self._parts: list[Part] = []
        self._live: Counters | None = None
        self._policy_version = 0
        self._config: Config | None = None
        self._enforcement = child.enforcement
        if child.settings is not None:
            settled_ms = starts_ms - SETTLED_MS
            first = _first_config(child.timezone, at_ms=settled_ms)
            self._config = first.changed(_change(child.settings), at_ms=settled_ms)
        self._effective_policies = EffectivePolicyPool(Markets(Market(weekend_days=tuple(numbers.weekend_days))))
        self._policy = self._policy_now()

    def answer(self, call: Call, send: Body, *, at_ms: int) -> Expectation:
        """The expected answer to a call ``at_ms`` after the start. Calls come in the order of their instants."""
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
        except Refusal as refusal:
            return refusal.answer

    # --- players

    def _beat(self, send: Body, at_ms: int) -> Expectation:
        return self.expectation(self.decided(send, at_ms))

    def decided(self, send: Body, at_ms: int) -> "DecidedPair":
        """Count a beat at an instant (UTC ms), and decide with the shortest and with the longest interval."""
        session_id = send.get("session_id", "")
        is_educational = self._titles.get(send["title_id"])
        if is_educational is None and not session_id:
            raise Refusal(404, "title_unknown")
        if session_id and session_id not in self._sessions:
            raise Refusal(*_DENIED)
        new_id = f"$s{len(self._issued) + 1}"
        if self._config is None:
            session_id = session_id or new_id
            self._issue(session_id, at_ms, last_beat_ms=at_ms)
            return self._decided_for_adult(session_id, at_ms, is_educational=bool(is_educational))
        outcome, terms = self._count(
            send, at_ms, session_id=session_id, new_id=new_id, is_end=send.get("has_left", False)
        )
        if outcome.status != Status.OK:
            code = "session_superseded" if outcome.status == Status.SUPERSEDED else "session_ended"
            by = {"device_type": outcome.by_device_type}
            raise Refusal(409, code, by=by, at=self._instant(outcome.ended_ms))
        is_exempt = bool(is_educational) and self._config.educational_exempt
        effective, left_ms = self._effective(terms, at_ms), outcome.week_left_ms
        terms = terms if effective.week is None else cut(terms, left_ms)
        soonest, latest = self._decisions(effective, at_ms, terms, outcome, left_ms, is_exempt=is_exempt)
        answer = heartbeat_answer(effective, terms, outcome, soonest, is_educational=bool(is_educational))
        playable = partial(effective.playable, terms, outcome, at_ms, is_exempt, left_ms)
        return DecidedPair(
            DecidedBeat("", at_ms, soonest, answer, playable), DecidedBeat("", at_ms, latest, answer, playable)
        )

    def expectation(self, decided: "DecidedPair") -> Expectation:
        """The answer to a beat."""
        soonest, latest = decided
        interval = _interval(soonest.decision.next_beat_ms, latest.decision.next_beat_ms)
        return Expectation(200, self._body(soonest.answer, _HEARTBEAT) | interval)

    def told_of_co_viewer(self, answer: CoViewerAnswer) -> Body:
        """An entry of ``co_viewers`` as the kit compares it."""
        values = msgspec.to_builtins(answer)
        return {field: self._value(field, value) for field, value in values.items()}

    def has(self, session_id: str) -> bool:
        return session_id in self._sessions

    def _end(self, send: Body, at_ms: int) -> Expectation:
        session_id = send["session_id"]
        session = self._sessions.get(session_id)
        if session is None:
            raise Refusal(*_DENIED)
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
            return Expectation(200, self._body(adult_balance_answer("", at_ms=at_ms), _ADULT_BALANCE))
        counters, terms = self._look(at_ms)
        effective = self._effective(terms, at_ms)
        terms, left_ms = effective.within_week(terms, counters)
        decision, _latest = self._decisions(effective, at_ms, terms, counters, left_ms, is_exempt=False)
        answer = balance_answer("", effective, terms, counters, decision, at_ms=at_ms)
        return Expectation(200, self._body(answer, _BALANCE))

    def _eligible(self, send: Body, at_ms: int) -> Expectation:
        if self._config is None:
            return Expectation(200, self._body(adult_eligibility_answer("", at_ms=at_ms), _ADULT_ELIGIBILITY))
        counters, terms = self._look(at_ms)
        is_exempt = bool(self._titles.get(send["title_id"])) and self._config.educational_exempt
        effective = self._effective(terms, at_ms)
        terms, left_ms = effective.within_week(terms, counters)
        asked = msgspec.structs.replace(counters, finish_until_ms=0)
        decision, _latest = self._decisions(effective, at_ms, terms, asked, left_ms, is_exempt=is_exempt)
        answer = eligibility_answer("", terms, decision, is_exempt=is_exempt, at_ms=at_ms)
        return Expectation(200, self._body(answer, _ELIGIBILITY))

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
        counters, terms = self._look(at_ms)
        effective = self._effective(terms, at_ms)
        left_ms = effective.within_week(terms, counters)[1] if effective.week is not None else None
        over_ms = exceeded_ms(
            self._policy,
            terms.day,
            used_ms=counters.used_ms + self._finished_ms(counters, at_ms),
            weekend_days=self._numbers.weekend_days,
            week_left_ms=left_ms,
            owed_ms=counters.owed_ms,
        )
        covered_ms = 0 if send["minutes"] is None else over_ms
        self._grants[name] = Grant(terms.number, send["minutes"], covered_ms, at_ms)
        self._announce(at_ms)
        return Expectation(201, self._extra_time(name, send["minutes"], terms.day, at_ms))

    def _revoke(self, send: Body, at_ms: int) -> Expectation:
        name = send["grant_id"]
        self._revoked.add(name)
        self._announce(at_ms)
        day = self._child_config().calendar.day_at(at_ms)
        return Expectation(200, self._extra_time(name, self._grants[name].minutes, day, at_ms))

    def _finished_ms(self, counters: Counters, at_ms: int) -> int:
        """What has been borrowed since the last beat."""
        if counters.is_educational and self._policy.educational_exempt:
            return 0
        return counters.finished_since_ms(at_ms, self._rules.max_gap_ms)

    def _extra_time(self, name: str, minutes: int | None, day: ViewingDay, at_ms: int) -> Body:
        counters, terms = self._look(at_ms)
        terms, _ = self._effective(terms, at_ms).within_week(terms, counters)
        is_unlimited = terms.allowance_ms == UNLIMITED
        allowance_ms = less_owed(terms.allowance_ms, counters.owed_ms)
        used_ms = counters.used_ms + self._finished_ms(counters, at_ms)
        remaining_ms = None if is_unlimited else max(0, allowance_ms - used_ms)
        return {
            "grant_id": name,
            "granted_minutes": minutes,
            "covered_seconds": _seconds(self._grants[name].covered_ms),
            "day": day.date.isoformat(),
            "remaining_seconds": _seconds(remaining_ms),
            "is_unlimited_override": is_unlimited and terms.limit_ms != UNLIMITED,
        }

    # --- counting

    def _count(
        self, send: Body, at_ms: int, *, session_id: str, new_id: str = "", is_end: bool = False
    ) -> tuple[Outcome, DayTerms]:
        counters = self._live or self._cold(at_ms)
        days = self._days(counters.day, at_ms)
        session = self._sessions.get(session_id)
        hours = opening_hours_of(self._policy, days[-1].day)
        beat = Beat(
            session_id=session_id,
            new_session_id=new_id,
            issued_at_ms=0 if session is None else session.issued_ms,
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
            closed=None if hours is None else hours.closed_within(days[-1].day),
            week=self._week(),
            breaks=breaks_of(self._policy.rules),
            finish=self._finish(send),
        )
        recorded = record(counters, beat, at_ms=at_ms, rules=self._rules)
        self._remember(recorded, at_ms)
        return recorded.outcome, days[-1]

    def _finish(self, send: Body) -> FinishTerms | None:
        left_seconds = send.get("title_remaining_seconds")
        return None if left_seconds is None else finish_of(self._policy.rules, round(left_seconds * 1000))

    def _remember(self, recorded: RecordResult, at_ms: int) -> None:
        self._live = recorded.counters
        for state in (*recorded.closed, recorded.counters):
            if state is not None and state.session_id:
                session = self._issue(state.session_id, at_ms, last_beat_ms=state.last_beat_ms)
                session.total_ms, session.last_beat_ms = state.session_total_ms, state.last_beat_ms
                part = state.session_id, state.day_number
                self._counted[part] = counted_ranges(state, until_ms=state.last_beat_ms)

    def _issue(self, session_id: str, at_ms: int, *, last_beat_ms: int) -> _Session:
        if session_id not in self._sessions:
            self._sessions[session_id] = _Session(issued_ms=at_ms, last_beat_ms=last_beat_ms)
            self._issued.append(session_id)
        return self._sessions[session_id]

    def _look(self, at_ms: int) -> tuple[Counters, DayTerms]:
        """The counters as they stand, those of a new day if one has begun, and the terms of that day."""
        counters = self._live or self._cold(at_ms)
        days = self._days(counters.day, at_ms)
        return carried_into(counters, days, self._week()), days[-1]

    def _cold(self, at_ms: int) -> Counters:
        terms = self._terms(self._child_config().calendar.day_at(at_ms))
        return cold(terms=terms, policy_version=self._policy.version, at_ms=at_ms)

    def _settle(self, send: Body, at_ms: int) -> tuple[int, ...]:
        counters, terms = self._look(at_ms)
        intervals = [
            OfflineInterval(
                starts_ms=self._starts_ms + sent["started_at"]["at_ms"],
                ends_ms=self._starts_ms + sent["ended_at"]["at_ms"],
                watched_ms=round(sent["watched_seconds"] * 1000),
                is_educational=bool(self._titles.get(sent["title_id"])),
            )
            for sent in send["intervals"]
        ]
        watched = [time_range for ranges in self._counted.values() for time_range in ranges]
        if self._live is not None:
            until_ms = counted_until_ms(self._live, at_ms=at_ms, rules=self._rules)
            watched += counted_ranges(self._live, until_ms=until_ms)

        def use_of(day: ViewingDay) -> DayUse:
            is_running, of_day, week = day.number == terms.number, self._terms(day), self._week()
            if week is not None:
                of_day = week.within(of_day, week.earlier_days(counters.week, day.number))
            return DayUse(of_day, counters.used_ms if is_running else 0, counters.owed_on(day))

        settlement = settle(
            intervals,
            covered=[*(part.time_range for part in self._parts), *watched],
            day_at=self._child_config().calendar.day_at,
            use_of=use_of,
            exempt_at=lambda _: (self._child_config().educational_exempt, FOREVER_MS),
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
            rules=config.rules if config else None,
        )

    def _announce(self, at_ms: int) -> None:
        """Apply a change to the running day at once."""
        self._policy = self._policy_now()
        if self._live is not None:
            self._live = apply_policy(
                self._live,
                version=self._policy.version,
                terms=self._terms(self._child_config().calendar.day_at(at_ms)),
                synced=self._policy.synced,
                is_exempt=self._policy.educational_exempt,
                at_ms=at_ms,
                max_gap_ms=self._rules.max_gap_ms,
                week=self._week(),
                breaks=breaks_of(self._policy.rules),
            )

    def _days(self, running: ViewingDay, at_ms: int) -> list[DayTerms]:
        days = self._child_config().calendar.days_after(running, until_ms=at_ms) or [running]
        return [self._terms(day) for day in days]

    def _week(self) -> WeekTerms | None:
        return week_of(self._policy, starts_on=_WEEK_STARTS_ON)

    def _terms(self, day: ViewingDay) -> DayTerms:
        return terms_of(self._policy, day, weekend_days=self._numbers.weekend_days)

    def _effective(self, terms: DayTerms, at_ms: int) -> EffectivePolicy:
        effective = self._effective_policies.of(self._policy, terms.day, at_ms)
        return msgspec.structs.replace(effective, enforcement=self._enforcement)

    def _decisions(
        self,
        effective: EffectivePolicy,
        at_ms: int,
        terms: DayTerms,
        counted: Counted,
        week_left_ms: int,
        *,
        is_exempt: bool,
    ) -> tuple[Decision, Decision]:
        """The decision with the shortest and with the longest interval that jitter allows."""

        def decision(jitter: int) -> Decision:
            decided = effective.decision(
                terms,
                counted,
                at_ms,
                is_exempt=is_exempt,
                week_left_ms=week_left_ms,
                interval_ms=self._interval_ms(jitter),
                longest_lease_ms=self._numbers.lease_seconds * 1000,
            )
            if self._enforcement == ENFORCE:
                return decided
            return not_enforced(decided, self._enforcement, longest_lease_ms=self._numbers.lease_seconds * 1000)

        return decision(-1), decision(1)

    def _interval_ms(self, jitter: int) -> int:
        """The regular interval with the whole of its jitter taken off (-1) or put on (1)."""
        return round(self._numbers.beat_interval_seconds * 1000 * (1 + jitter * self._numbers.beat_jitter))

    # --- answers as the kit compares them

    def _decided_for_adult(self, session_id: str, at_ms: int, *, is_educational: bool) -> "DecidedPair":
        lease_ms = self._numbers.lease_seconds * 1000

        def decided(interval_ms: int) -> DecidedBeat:
            answer = adult_heartbeat_answer(
                session_id, is_educational=is_educational, interval_ms=interval_ms, lease_ms=lease_ms, at_ms=at_ms
            )
            decision = Decision(ALLOWED, None, None, interval_ms, lease_ms)
            return DecidedBeat("", at_ms, decision, answer, partial(playable_always, at_ms))

        return DecidedPair(decided(self._interval_ms(-1)), decided(self._interval_ms(1)))

    def _body(self, answer: msgspec.Struct, fields: Sequence[str]) -> Body:
        """The compared fields of an answer: instants in ms after the start, whole seconds as integers."""
        values = msgspec.to_builtins(answer)
        compared = [*fields, *(field for field in _WHERE_KNOWN if values.get(field))]
        return {field: self._value(field, values[field]) for field in compared}

    def _value(self, field: str, value: object) -> object:
        if field in _INSTANTS and isinstance(value, str):
            return self._instant(ms_of(datetime.fromisoformat(value)))
        return int(value) if isinstance(value, float) and value.is_integer() else value

    def _instant(self, at_ms: int | None) -> dict[str, int] | None:
        return None if at_ms is None else {"at_ms": at_ms - self._starts_ms}


_INSTANTS = frozenset({"stop_at", "next_reset_at", "server_time", "available_again_at", "closes_at"})
_WHERE_KNOWN = ("would_be", "closes_at", "borrowed_seconds", "owed_seconds")
_HEARTBEAT = (
    "session_id",
    "enforcement",
    "remaining_seconds",
    "used_seconds",
    "is_educational",
    "stop_at",
    "next_beat_in",
    "lease_seconds",
    "next_reset_at",
    "server_time",
    "config_version",
    "reason",
    "available_again_at",
)
_BALANCE = (
    "is_child_profile",
    "has_limits",
    "used_seconds",
    "educational_seconds",
    "overrun_seconds",
    "limit_minutes",
    "granted_minutes",
    "covered_seconds",
    "remaining_seconds",
    "is_unlimited_override",
    "enforcement",
    "day",
    "next_reset_at",
    "server_time",
    "warning_threshold_minutes",
    "reason",
    "available_again_at",
)
_ADULT_BALANCE = (
    "is_child_profile",
    "has_limits",
    "used_seconds",
    "educational_seconds",
    "overrun_seconds",
    "limit_minutes",
    "granted_minutes",
    "remaining_seconds",
    "is_unlimited_override",
    "enforcement",
    "day",
    "next_reset_at",
    "warning_threshold_minutes",
    "server_time",
)
_ELIGIBILITY = ("eligible", "reason", "remaining_seconds", "next_reset_at", "server_time", "available_again_at")
_ADULT_ELIGIBILITY = ("eligible", "reason", "remaining_seconds", "server_time")


def _interval(soonest_ms: int, latest_ms: int) -> Body:
    """The bounds of the jittered beat interval."""
    return {"next_beat_in": {"from": _seconds(soonest_ms), "to": _seconds(latest_ms)}}


def _first_config(timezone: str, *, at_ms: int) -> Config:
    """The config of a new child."""
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
    return ViewingTimeChange(**settings).change()


def _seconds(ms: int | None) -> float | None:
    """Whole seconds as an integer, as JSON reads best."""
    return None if ms is None else ms // 1000 if ms % 1000 == 0 else ms / 1000
