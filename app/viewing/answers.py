"""Decisions and counters as players read them."""

from collections.abc import Collection
from functools import lru_cache

from app.domain.accounting import Live, Outcome
from app.domain.enforcement import ALLOWED, Decision
from app.domain.policy import MINUTE_MS, UNLIMITED, DayTerms
from app.instants import minutes, rfc3339
from app.viewing.policies import Standing
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
    standing: Standing, terms: DayTerms, outcome: Outcome, decision: Decision, *, is_educational: bool
) -> HeartbeatAnswer:
    used_ms = outcome.used_ms + standing.offline.used_ms
    remaining_ms = decision.remaining_ms
    return HeartbeatAnswer(
        session_id=outcome.session_id,
        enforcement=decision.enforcement,
        remaining_seconds=None if remaining_ms is None else remaining_ms / 1000,
        used_seconds=used_ms / 1000,
        remaining_minutes=None if remaining_ms is None else minutes(remaining_ms),
        used_minutes=minutes(used_ms),
        is_educational=is_educational,
        stop_at=None if decision.stop_at_ms is None else rfc3339(decision.stop_at_ms),
        next_beat_in=decision.next_beat_ms / 1000,
        lease_seconds=decision.lease_ms / 1000,
        next_reset_at=_reset_text(terms.ends_ms),
        config_version=standing.policy.config_version,
    )


@lru_cache(maxsize=4096)
def _reset_text(ends_ms: int) -> str:
    """Days of many children end at the same instant."""
    return rfc3339(ends_ms)


def adult_heartbeat_answer(
    session_id: str, *, is_educational: bool, interval_ms: int, lease_ms: int
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
        config_version=None,
    )


def balance_answer(
    profile_id: str, standing: Standing, terms: DayTerms, live: Live, decision: Decision
) -> BalanceAnswer:
    policy, offline = standing.policy, standing.offline
    granted_ms = policy.granted_ms(terms.number)
    used_ms = live.used_ms + offline.used_ms
    educational_ms = live.educational_ms + offline.educational_ms
    remaining_ms = decision.remaining_ms
    threshold = decision.enforcement.removeprefix("warning_")
    return BalanceAnswer(
        profile_id=profile_id,
        is_child_profile=True,
        has_limits=policy.weekday_limit_minutes is not None,
        used_seconds=seconds(used_ms),
        used_minutes=minutes(used_ms),
        educational_seconds=seconds(educational_ms),
        educational_minutes=minutes(educational_ms),
        overrun_seconds=seconds(live.overrun_ms + offline.overrun_ms),
        limit_minutes=None if terms.limit_ms == UNLIMITED else terms.limit_ms // MINUTE_MS,
        granted_minutes=0 if granted_ms == UNLIMITED else granted_ms // MINUTE_MS,
        remaining_seconds=None if remaining_ms is None else seconds(remaining_ms),
        remaining_minutes=None if remaining_ms is None else minutes(remaining_ms),
        is_unlimited_override=_is_override(granted_ms, terms),
        enforcement=decision.enforcement,
        day=terms.day.date.isoformat(),
        next_reset_at=rfc3339(terms.ends_ms),
        warning_threshold_minutes=int(threshold) if threshold.isdecimal() else None,
    )


def _is_override(granted_ms: int, terms: DayTerms) -> bool:
    """Whether a grant lifts a limit: without one there is nothing to lift."""
    return granted_ms == UNLIMITED and terms.limit_ms != UNLIMITED


def adult_balance_answer(profile_id: str) -> BalanceAnswer:
    return BalanceAnswer(
        profile_id=profile_id,
        is_child_profile=False,
        has_limits=False,
        used_seconds=0.0,
        used_minutes=0.0,
        educational_seconds=0.0,
        educational_minutes=0.0,
        overrun_seconds=0.0,
        limit_minutes=None,
        granted_minutes=0,
        remaining_seconds=None,
        remaining_minutes=None,
        is_unlimited_override=False,
        enforcement=ALLOWED,
        day=None,
        next_reset_at=None,
        warning_threshold_minutes=None,
    )


def why_answer(
    profile_id: str,
    standing: Standing,
    terms: DayTerms,
    live: Live,
    decision: Decision,
    *,
    at_ms: int,
    weekend_days: Collection[int],
) -> WhyAnswer:
    policy, offline = standing.policy, standing.offline
    granted_ms = policy.granted_ms(terms.number)
    rule = policy.calendar.rule_of(terms.day) if policy.calendar else None
    is_weekend = terms.day.date.weekday() in weekend_days
    return WhyAnswer(
        profile_id=profile_id,
        decided_at=rfc3339(at_ms),
        enforcement=decision.enforcement,
        sentences=_sentences(standing, terms, live, decision, is_weekend=is_weekend),
        config_version=policy.config_version,
        limit_seconds=None if terms.limit_ms == UNLIMITED else seconds(terms.limit_ms),
        granted_seconds=0.0 if granted_ms == UNLIMITED else seconds(granted_ms),
        is_unlimited_override=_is_override(granted_ms, terms),
        offline_seconds=seconds(offline.used_ms),
        used_seconds=seconds(live.used_ms + offline.used_ms),
        educational_seconds=seconds(live.educational_ms + offline.educational_ms),
        overrun_seconds=seconds(live.overrun_ms + offline.overrun_ms),
        remaining_seconds=None if decision.remaining_ms is None else seconds(decision.remaining_ms),
        stop_at=None if decision.stop_at_ms is None else rfc3339(decision.stop_at_ms),
        day=WhyDay(
            date=terms.day.date.isoformat(),
            starts_at=rfc3339(terms.starts_ms),
            ends_at=rfc3339(terms.ends_ms),
            is_weekend=is_weekend,
            timezone=rule.timezone if rule else "UTC",
            reset_hour=rule.reset_hour if rule else 0,
        ),
        session=_why_session(live) if live.session_id else None,
    )


def _why_session(live: Live) -> WhySession:
    return WhySession(
        session_id=live.session_id,
        title_id=live.title_id,
        is_educational=bool(live.is_educational),
        device_id=live.device_id,
        device_type=live.device_type,
        started_at=rfc3339(live.session_started_ms),
        last_beat_at=rfc3339(live.last_beat_ms),
        paused_since=rfc3339(live.paused_since_ms) if live.paused_since_ms else None,
        has_ended=bool(live.has_ended),
        credited_seconds=seconds(live.session_total_ms),
    )


def _sentences(standing: Standing, terms: DayTerms, live: Live, decision: Decision, *, is_weekend: bool) -> list[str]:
    policy, offline = standing.policy, standing.offline
    granted_ms = policy.granted_ms(terms.number)
    kind = "weekend day" if is_weekend else "weekday"
    said = [f"The viewing day {terms.day.date.isoformat()} is a {kind}; it ends at {rfc3339(terms.ends_ms)}."]
    if terms.limit_ms == UNLIMITED:
        said.append("No limit is set.")
    else:
        said.append(f"The limit of this day is {_minutes_text(terms.limit_ms)}.")
    if granted_ms == UNLIMITED:
        said.append("A parent has lifted the limit until the day ends.")
    elif granted_ms:
        said.append(f"Parents have given {_minutes_text(granted_ms)} extra.")
    said.append(f"{_minutes_text(live.used_ms + offline.used_ms)} have been used.")
    if offline.used_ms:
        said.append(f"{_minutes_text(offline.used_ms)} of them were played without a connection.")
    if live.educational_ms:
        said.append(f"{_minutes_text(live.educational_ms)} of educational titles are counted apart.")
    if live.overrun_ms:
        said.append(f"{_minutes_text(live.overrun_ms)} were watched beyond the allowance.")
    if decision.remaining_ms is None:
        said.append("So playback is not limited.")
    else:
        said.append(f"So {_minutes_text(decision.remaining_ms)} remain: {decision.enforcement}.")
    return said


def _minutes_text(ms: int) -> str:
    return f"{ms / MINUTE_MS:.1f} minutes"


def eligibility_answer(profile_id: str, terms: DayTerms, decision: Decision, *, is_exempt: bool) -> EligibilityAnswer:
    if decision.remaining_ms is None:
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
    )
