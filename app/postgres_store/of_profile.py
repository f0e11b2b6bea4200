"""Tables whose rows belong to one profile: an export holds all of them, an erasure removes all of them."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Table

from app.postgres_store import tables


@dataclass(frozen=True)
class Kind:
    """Rows of a profile in the order of their ``key``, which is unique among them."""

    table: Table
    key: tuple[str, ...]


KINDS: Mapping[str, Kind] = {
    "settings": Kind(tables.viewing_time_configs, ("version",)),
    "settings_history": Kind(tables.viewing_time_config_history, ("version",)),
    "grants": Kind(tables.time_grants, ("granted_at", "id")),
    "requests": Kind(tables.extra_time_requests, ("requested_at", "id")),
    "balances": Kind(tables.viewing_time_balances, ("day",)),
    "sessions": Kind(tables.viewing_sessions, ("started_at", "id", "day")),
    "offline_batches": Kind(tables.offline_batches, ("batch_id",)),
    "offline_intervals": Kind(tables.offline_intervals, ("id",)),
    "parked_rows": Kind(tables.parked_rows, ("id",)),
    "idempotency_keys": Kind(tables.idempotency_keys, ("key",)),
    "audit_log": Kind(tables.audit_log, ("id",)),
}
"""By the name that exports and receipts give them."""
