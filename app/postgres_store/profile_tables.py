"""Tables whose rows belong to a profile or an account: exports hold all of them, erasures remove all of them."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Table

from app.postgres_store import tables


@dataclass(frozen=True)
class ProfileTable:
    """Rows of one owner in the order of their ``key``, which is unique among them."""

    table: Table
    key: tuple[str, ...]


KINDS: Mapping[str, ProfileTable] = {
    "settings": ProfileTable(tables.viewing_time_configs, ("version",)),
    "settings_history": ProfileTable(tables.viewing_time_config_history, ("version",)),
    "grants": ProfileTable(tables.time_grants, ("granted_at", "id")),
    "requests": ProfileTable(tables.extra_time_requests, ("requested_at", "id")),
    "balances": ProfileTable(tables.viewing_time_balances, ("day",)),
    "sessions": ProfileTable(tables.viewing_sessions, ("started_at", "id", "day")),
    "tamper_hints": ProfileTable(tables.tamper_hints, ("day", "session_id", "kind")),
    "offline_batches": ProfileTable(tables.offline_batches, ("batch_id",)),
    "offline_intervals": ProfileTable(tables.offline_intervals, ("id",)),
    "parked_rows": ProfileTable(tables.parked_rows, ("id",)),
    "idempotency_keys": ProfileTable(tables.idempotency_keys, ("key",)),
    "feed_open_sessions": ProfileTable(tables.feed_open_sessions, ("session_id",)),
    "feed_open_days": ProfileTable(tables.feed_open_days, ("day",)),
    "feed_events": ProfileTable(tables.feed_events, ("written", "id")),
    "audit_log": ProfileTable(tables.audit_log, ("id",)),
}
"""By the name that exports and receipts give them."""

ACCOUNT_KINDS: Mapping[str, ProfileTable] = {
    "devices": ProfileTable(tables.devices, ("created_at", "id")),
    "sign_ins": ProfileTable(tables.sign_ins, ("created_at", "id")),
    "lockouts": ProfileTable(tables.lockouts, ("kind",)),
    "weekly_reports": ProfileTable(tables.weekly_reports, ("week_ending",)),
    "audit_log": ProfileTable(tables.audit_log, ("id",)),
}
"""Those of an account. Its profiles have theirs; the log is in both, since it also tells of erased profiles."""
