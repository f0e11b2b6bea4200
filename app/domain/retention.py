"""How long what was counted is kept."""

from collections.abc import Mapping
from datetime import date

import msgspec

from app.domain.idempotency import KEY_LIFE_MS
from app.domain.viewing_day import DAY_MS
from app.timestamps import utc

_LOCKOUT_MS = DAY_MS
_MAX_TOKEN_MS = 180 * DAY_MS
_MONTH_MS = 31 * DAY_MS


class RetentionPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions and balances leave by the week or month, when all of it is older; the rest row by row.

    Attributes:
        session_days: what was played, when and where.
        balance_days: sums of viewing days, and the weekly reports made of them.
        record_days: grants, requests, settings as they were, and the audit log.
        feed_days: events of the event feed.
    """

    session_days: int = 90
    balance_days: int = 365
    record_days: int = 365
    feed_days: int = 7

    def sessions_from(self, at_ms: int) -> date:
        """The first day (UTC) whose sessions are kept."""
        return utc(at_ms - self.session_days * DAY_MS).date()

    def balances_from(self, at_ms: int) -> date:
        """The first day whose balances are kept."""
        return utc(at_ms - self.balance_days * DAY_MS).date()

    @property
    def lives_ms(self) -> Mapping[str, int]:
        """How long rows are kept that leave one by one, by their kind."""
        session_ms, record_ms = self.session_days * DAY_MS, self.record_days * DAY_MS
        return {
            "grants": record_ms,
            "requests": record_ms,
            "settings_history": record_ms,
            "audit_log": record_ms,
            "feed_events": self.feed_days * DAY_MS,
            "feed_open_sessions": self.feed_days * DAY_MS,
            "feed_open_days": self.feed_days * DAY_MS,
            "weekly_reports": self.balance_days * DAY_MS,
            "tamper_hints": session_ms,
            "offline_batches": session_ms,
            "offline_intervals": session_ms,
            "parked_rows": session_ms,
            "idempotency_keys": KEY_LIFE_MS,
            "lockouts": _LOCKOUT_MS,
            "devices": 0,
            "sign_ins": DAY_MS,  # an access token may outlive the refresh token of its sign-in
            "removed_titles": session_ms,  # no history shows them any more
            # When they go, no token of theirs is valid any more, and nothing late is taken.
            "tombstones": max(_MAX_TOKEN_MS, self.balance_days * DAY_MS) + _MONTH_MS,
        }
