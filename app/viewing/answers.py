"""Decisions and counters as players read them."""

from collections.abc import Sequence
from functools import lru_cache

import msgspec
from msgspec import UNSET, UnsetType

from app.domain.counters import Counters, Outcome
from app.domain.enforcement import ALLOWED, DAILY_LIMIT, Decision
from app.domain.markets import ENFORCE, Market
from app.domain.opening_hours import PARENT_PAUSE, WINDOW
from app.domain.policy import MINUTE_MS, UNLIMITED, DayTerms, Policy
from app.domain.tampering import TEXTS, TamperHint
from app.http.hints import HintAnswer
from app.timestamps import minutes, rfc3339
from app.viewing.effective_policy import EffectivePolicy
from app.viewing.schemas import (
    BalanceAnswer,
    EligibilityAnswer,
    HeartbeatAnswer,
    WhyAnswer,
    WhyDay,
    WhySession,
    seconds,
)


def heartbeat_answer(
    effective: EffectivePolicy, terms: DayTerms, outcome: Outcome, decision: Decision, *, is_educational: bool
) -> HeartbeatAnswer:
    used_ms = outcome.used_ms + effective.offline.used_ms
    remaining_ms, again_ms = decision.remaining_ms, decision.available_again_ms
    # Few children have opening hours: the others pay for no call.
    closes_ms = None if effective.opening_hours is None else effective.closes_ms(outcome.at_ms)
    answer = HeartbeatAnswer(  # more than 15 keywords would be collected in a dictionary first
        outcome.session_id,
        decision.enforcement,
        None if remaining_ms is None else remaining_ms / 1000,
        used_ms / 1000,
        remaining_minutes=None if remaining_ms is None else minutes(remaining_ms),
        used_minutes=minutes(used_ms),
        is_educational=is_educational,
        stop_at=None if decision.stop_at_ms is None else rfc3339(decision.stop_at_ms),
        next_beat_in=decision.next_beat_ms / 1000,
        lease_seconds=decision.lease_ms / 1000,
        next_reset_at=_reset_text(terms.ends_ms),
        server_time=_server_time_text(outcome.at_ms),
        config_version=effective.policy.config_version,
        would_be=_would_be(decision),
        reason=decision.reason,
        available_again_at=None if again_ms is None else _reset_text(again_ms),
        closes_at=UNSET if closes_ms is None else _reset_text(closes_ms),
    )
    if outcome.borrowed_ms:
        answer = msgspec.structs.replace(answer, borrowed_seconds=outcome.borrowed_ms / 1000)
    return answer


@lru_cache(maxsize=4096)
def _reset_text(ends_ms: int) -> str:
    """Days of many children end at the same instant."""
    return rfc3339(ends_ms)


def _again_text(decision: Decision) -> str | None:
    again_ms = decision.available_again_ms
    return None if again_ms is None else _reset_text(again_ms)


@lru_cache(maxsize=4)
def _server_time_text(at_ms: int) -> str:
    """All beats of a call are counted at the same instant."""
    return rfc3339(at_ms)


def adult_heartbeat_answer(
    session_id: str, *, is_educational: bool, interval_ms: int, lease_ms: int, at_ms: int
) -> HeartbeatAnswer:
    return HeartbeatAnswer(
        session_id=session_id,
        enforcement=ALLOWED,
        remaining_seconds=None,
        used_seconds=0.0,
        remaining_minutes=None,
        used_minutes=0.0,
        is_educational=is_educational,
        stop_at=None,
        next_beat_in=interval_ms / 1000,
        lease_seconds=lease_ms / 1000,
        next_reset_at=None,
        server_time=rfc3339(at_ms),
        config_version=None,
    )


def balance_answer(
    profile_id: str, effective: EffectivePolicy, terms: DayTerms, counters: Counters, decision: Decision, *, at_ms: int
) -> BalanceAnswer:
    policy, offline = effective.policy, effective.offline
    granted_ms = policy.granted_ms(terms.number)
    used_ms = counters.used_ms + offline.used_ms
    educational_ms = counters.educational_ms + offline.educational_ms
    remaining_ms = decision.remaining_ms
    threshold = decision.enforcement.removeprefix("warning_")
    return BalanceAnswer(
        profile_id=profile_id,
        is_child_profile=True,
        has_limits=policy.limits.has_any,
        used_seconds=seconds(used_ms),
        used_minutes=minutes(used_ms),
        educational_seconds=seconds(educational_ms),
        educational_minutes=minutes(educational_ms),
        overrun_seconds=seconds(counters.overrun_ms + offline.overrun_ms),
        penalty_seconds=seconds(offline.penalty_ms),
        limit_minutes=None if terms.limit_ms == UNLIMITED else terms.limit_ms // MINUTE_MS,
        granted_minutes=policy.granted_minutes(terms.number),
        covered_seconds=seconds(policy.covered_ms(terms.number)),
        remaining_seconds=None if remaining_ms is None else seconds(remaining_ms),
        remaining_minutes=None if remaining_ms is None else minutes(remaining_ms),
        is_unlimited_override=_is_override(granted_ms, terms),
        enforcement=decision.enforcement,
        day=terms.day.date.isoformat(),
        next_reset_at=rfc3339(terms.ends_ms),
        server_time=rfc3339(at_ms),
        warning_threshold_minutes=int(threshold) if threshold.isdecimal() else None,
        paused_until=_paused_until(policy, at_ms),
        would_be=_would_be(decision),
        reason=decision.reason,
        available_again_at=_again_text(decision),
        week_remaining_seconds=_week_remaining(effective, terms, counters),
        break_in_seconds=_break_in(effective, counters, at_ms=at_ms),
        closes_at=None if (closes_ms := effective.closes_ms(at_ms)) is None else _reset_text(closes_ms),
        borrowed_seconds=seconds(counters.borrowed_ms),
        owed_seconds=seconds(counters.owed_ms),
    )


def _paused_until(policy: Policy, at_ms: int) -> str | None:
    """When a parent's pause ends, None where none goes on."""
    until_ms = policy.paused_until_ms
    return rfc3339(until_ms) if until_ms is not None and at_ms < until_ms else None


def _week_remaining(effective: EffectivePolicy, terms: DayTerms, counters: Counters) -> float | None:
    """What is left of the weekly limit after what today has used of its own limit."""
    if effective.week is None:
        return None
    terms, left_ms = effective.within_week(terms, counters)
    return seconds(max(0, left_ms - min(effective.own_ms(counters), terms.limit_ms)))


def _break_in(effective: EffectivePolicy, counters: Counters, *, at_ms: int) -> float | None:
    """What may be played until a break is due: 0 while it is, None without breaks."""
    found = effective.next_break(counters, at_ms)
    return None if found is None else seconds(found.left_ms)


def _is_holiday(policy: Policy, terms: DayTerms) -> bool:
    return policy.rules is not None and policy.rules.has_holiday(terms.number)


def _is_override(granted_ms: int, terms: DayTerms) -> bool:
    """Whether a grant lifts a limit: without one there is nothing to lift."""
    return granted_ms == UNLIMITED and terms.limit_ms != UNLIMITED


def adult_balance_answer(profile_id: str, *, at_ms: int) -> BalanceAnswer:
    return BalanceAnswer(
        profile_id=profile_id,
        is_child_profile=False,
        has_limits=False,
        used_seconds=0.0,
        used_minutes=0.0,
        educational_seconds=0.0,
        educational_minutes=0.0,
        overrun_seconds=0.0,
        penalty_seconds=0.0,
        limit_minutes=None,
        granted_minutes=0,
        covered_seconds=0.0,
        remaining_seconds=None,
        remaining_minutes=None,
        is_unlimited_override=False,
        enforcement=ALLOWED,
        day=None,
        next_reset_at=None,
        server_time=rfc3339(at_ms),
        warning_threshold_minutes=None,
    )


def why_answer(
    profile_id: str,
    effective: EffectivePolicy,
    terms: DayTerms,
    counters: Counters,
    decision: Decision,
    *,
    at_ms: int,
    market: Market,
    hints: Sequence[TamperHint],
) -> WhyAnswer:
    policy, offline = effective.policy, effective.offline
    granted_ms = policy.granted_ms(terms.number)
    rule = policy.calendar.rule_of(terms.day) if policy.calendar else None
    is_weekend = terms.day.date.weekday() in market.weekend_days
    return WhyAnswer(
        profile_id=profile_id,
        decided_at=rfc3339(at_ms),
        next_reset_at=rfc3339(terms.ends_ms),
        server_time=rfc3339(at_ms),
        enforcement=decision.enforcement,
        market=market.name,
        enforcement_mode=effective.enforcement,
        would_be=_would_be(decision),
        sentences=[
            *_sentences(effective, terms, counters, decision, at_ms=at_ms, is_weekend=is_weekend),
            *(f"A hint, no proof, at {rfc3339(hint.noted_ms)}: {TEXTS[hint.kind]}" for hint in hints),
        ],
        config_version=policy.config_version,
        limit_seconds=None if terms.limit_ms == UNLIMITED else seconds(terms.limit_ms),
        granted_seconds=seconds(policy.granted_minutes(terms.number) * MINUTE_MS),
        covered_seconds=seconds(policy.covered_ms(terms.number)),
        is_unlimited_override=_is_override(granted_ms, terms),
        offline_seconds=seconds(offline.used_ms),
        used_seconds=seconds(counters.used_ms + offline.used_ms),
        educational_seconds=seconds(counters.educational_ms + offline.educational_ms),
        overrun_seconds=seconds(counters.overrun_ms + offline.overrun_ms),
        penalty_seconds=seconds(offline.penalty_ms),
        abandoned_sessions=counters.abandoned_sessions,
        abandoned_sessions_charged=counters.charged_sessions,
        remaining_seconds=None if decision.remaining_ms is None else seconds(decision.remaining_ms),
        stop_at=None if decision.stop_at_ms is None else rfc3339(decision.stop_at_ms),
        day=WhyDay(
            date=terms.day.date.isoformat(),
            starts_at=rfc3339(terms.starts_ms),
            ends_at=rfc3339(terms.ends_ms),
            is_weekend=is_weekend,
            timezone=rule.timezone if rule else "UTC",
            reset_hour=rule.reset_hour if rule else 0,
            is_holiday=_is_holiday(policy, terms),
        ),
        session=_why_session(counters) if counters.session_id else None,
        tamper_hints=[HintAnswer.of(hint) for hint in hints],
        reason=decision.reason,
        available_again_at=_again_text(decision),
        paused_until=_paused_until(policy, at_ms),
        week_remaining_seconds=_week_remaining(effective, terms, counters),
        break_in_seconds=_break_in(effective, counters, at_ms=at_ms),
        borrowed_seconds=seconds(counters.borrowed_ms),
        owed_seconds=seconds(counters.owed_ms),
    )


def _why_session(counters: Counters) -> WhySession:
    return WhySession(
        session_id=counters.session_id,
        title_id=counters.title_id,
        is_educational=bool(counters.is_educational),
        device_id=counters.device_id,
        device_type=counters.device_type,
        started_at=rfc3339(counters.session_started_ms),
        last_beat_at=rfc3339(counters.last_beat_ms),
        paused_since=rfc3339(counters.paused_since_ms) if counters.paused_since_ms else None,
        has_ended=bool(counters.has_ended),
        credited_seconds=seconds(counters.session_total_ms),
    )


def _sentences(
    effective: EffectivePolicy,
    terms: DayTerms,
    counters: Counters,
    decision: Decision,
    *,
    at_ms: int,
    is_weekend: bool,
) -> list[str]:
    policy, offline = effective.policy, effective.offline
    granted_ms = policy.granted_ms(terms.number)
    kind = "weekend day" if is_weekend else "holiday" if _is_holiday(policy, terms) else "weekday"
    said = [f"The viewing day {terms.day.date.isoformat()} is a {kind}; it ends at {rfc3339(terms.ends_ms)}."]
    if terms.limit_ms == UNLIMITED:
        said.append("No limit is set.")
    else:
        said.append(f"The limit of this day is {_minutes_text(terms.limit_ms)}.")
    if (week_seconds := _week_remaining(effective, terms, counters)) is not None:
        said.append(f"{_minutes_text(round(week_seconds * 1000))} are left of the weekly limit.")
    if granted_ms == UNLIMITED:
        said.append("A parent has lifted the limit until the day ends.")
    if given_minutes := policy.granted_minutes(terms.number):
        said.append(f"Parents have given {_minutes_text(given_minutes * MINUTE_MS)} extra.")
    if covered_ms := policy.covered_ms(terms.number):
        said.append(f"{_minutes_text(covered_ms)} beyond the allowance were covered with it.")
    said.append(f"{_minutes_text(counters.used_ms + offline.used_ms)} have been used.")
    if offline.used_ms:
        said.append(f"{_minutes_text(offline.used_ms)} of them were played without a connection.")
    if offline.penalty_ms:
        text = _minutes_text(offline.penalty_ms)
        said.append(f"{text} are taken off for playback that a device with a wrong clock reported.")
    if educational_ms := counters.educational_ms + offline.educational_ms:
        said.append(f"{_minutes_text(educational_ms)} of educational titles are counted apart.")
    if overrun_ms := counters.overrun_ms + offline.overrun_ms:
        said.append(f"{_minutes_text(overrun_ms)} were watched beyond the allowance.")
    if counters.charged_sessions:
        said.append(
            f"{counters.abandoned_sessions} sessions were opened and left without another heartbeat;"
            f" {counters.charged_sessions} of them were charged the time their players could go on alone."
        )
    said += _finishing_sentences(counters, decision)
    said += _closing_sentences(effective, decision)
    said += _break_sentences(effective, counters, at_ms=at_ms)
    said += _mode_sentences(effective, decision)
    return said + _conclusion(decision)


def _conclusion(decision: Decision) -> list[str]:
    if decision.remaining_ms is None:
        return ["So playback is not limited."]
    said = [f"So {_minutes_text(decision.remaining_ms)} remain: {decision.enforcement}."]
    if decision.available_again_ms is not None:
        said.append(f"Playback is possible again at {rfc3339(decision.available_again_ms)}.")
    return said


def _finishing_sentences(counters: Counters, decision: Decision) -> list[str]:
    said: list[str] = []
    if counters.owed_ms:
        said.append(f"{_minutes_text(counters.owed_ms)} are taken off: they finished a title the day before.")
    if counters.borrowed_ms:
        text = _minutes_text(counters.borrowed_ms)
        said.append(f"{text} of what was used finished a title after the limit: the next day has so much less.")
    if decision.may_play and 0 < counters.finish_until_ms == decision.stop_at_ms:
        said.append(f"The title that plays may be finished until {rfc3339(counters.finish_until_ms)}.")
    return said


def _closing_sentences(effective: EffectivePolicy, decision: Decision) -> list[str]:
    paused_until_ms = effective.policy.paused_until_ms
    if decision.reason == PARENT_PAUSE and paused_until_ms is not None:
        return [f"A parent has paused playback until {rfc3339(paused_until_ms)}."]
    if decision.reason == WINDOW:
        if not decision.may_play:
            return ["It is outside of the windows in which playback is open."]
        if decision.stop_at_ms is not None:
            return [f"Playback closes at {rfc3339(decision.stop_at_ms)}, when a window or extra time ends."]
    return []


def _break_sentences(effective: EffectivePolicy, counters: Counters, *, at_ms: int) -> list[str]:
    breaks, found = effective.breaks, effective.next_break(counters, at_ms)
    if breaks is None or found is None:
        return []
    length = _minutes_text(breaks.length_ms)
    if not found.left_ms:
        played = _minutes_text(counters.unbroken_ms)
        return [f"{played} were played without a pause of {length}: a break is due until {rfc3339(found.ends_ms)}."]
    return [f"A break of {length} is due after {_minutes_text(found.left_ms)} more without one."]


def _would_be(decision: Decision) -> str | UnsetType:
    """For the member of this name, which is left out where limits are enforced."""
    return UNSET if decision.would_be is None else decision.would_be


def _mode_sentences(effective: EffectivePolicy, decision: Decision) -> list[str]:
    if decision.would_be is not None:
        return [f"Limits are counted but not enforced here (shadow mode): it would be {decision.would_be}."]
    return [] if effective.enforcement == ENFORCE else ["Limits are counted but not enforced here."]


def _minutes_text(ms: int) -> str:
    return f"{ms / MINUTE_MS:.1f} minutes"


def adult_eligibility_answer(profile_id: str, *, at_ms: int) -> EligibilityAnswer:
    return EligibilityAnswer(
        profile_id=profile_id,
        eligible=True,
        reason="adult",
        remaining_seconds=None,
        remaining_minutes=None,
        next_reset_at=None,
        server_time=rfc3339(at_ms),
    )


def eligibility_answer(
    profile_id: str, terms: DayTerms, decision: Decision, *, is_exempt: bool, at_ms: int
) -> EligibilityAnswer:
    if decision.would_be is not None:
        reason = "not_enforced"
    elif not decision.may_play and decision.reason not in {None, DAILY_LIMIT}:
        reason = str(decision.reason)
    elif decision.remaining_ms is None:
        reason = "unlimited"
    elif is_exempt:
        reason = "educational_exempt"
    else:
        reason = "within_limit" if decision.may_play else "limit_reached"
    return EligibilityAnswer(
        profile_id=profile_id,
        eligible=decision.may_play,
        reason=reason,
        remaining_seconds=None if decision.remaining_ms is None else seconds(decision.remaining_ms),
        remaining_minutes=None if decision.remaining_ms is None else minutes(decision.remaining_ms),
        next_reset_at=rfc3339(terms.ends_ms),
        server_time=rfc3339(at_ms),
        would_be=_would_be(decision),
        available_again_at=_again_text(decision),
    )
