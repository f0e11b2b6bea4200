"""Every table. PostgreSQL owns policy; usage arrives here from Redis by the flush alone.

Durations and instants of usage are whole milliseconds (``*_ms``); instants that people set are ``timestamptz``.
A NULL limit means unlimited. Usage tables are partitioned (`partitions`), so that age is dropped, not deleted.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB, UUID

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _uuid(name: str, *args: object, **kwargs: object) -> Column[str]:
    return Column(name, UUID(as_uuid=False), *args, **kwargs)  # type: ignore[arg-type]


def _instant(name: str, **kwargs: object) -> Column[object]:
    return Column(name, DateTime(timezone=True), **kwargs)  # type: ignore[arg-type]


accounts = Table(
    "accounts",
    metadata,
    _uuid("id", primary_key=True),
    # NULL where the platform signs its people in.
    Column("email", String(320), unique=True),  # stored lower-case
    Column("password_hash", Text),
    Column("external_id", String(255)),  # the platform's own, canonical (domain.external_ids)
    Column("market", String(50)),
    Column("timezone", String(50), nullable=False),
    Column("pin_hash", Text),
    Column("pin_changed_at", DateTime(timezone=True)),
    # Refresh tokens without a sign-in, from before there were any, are void if issued before this.
    _instant("sign_ins_ended_at"),
    _instant("created_at", nullable=False, server_default=func.now()),
    Index("ix_accounts_external_id", "external_id", unique=True),
)

profiles = Table(
    "profiles",
    metadata,
    _uuid("id", primary_key=True),
    _uuid("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", String(100), nullable=False),
    Column("is_kids", Boolean, nullable=False),
    Column("timezone", String(50), nullable=False),
    Column("enforcement", String(10)),  # NULL: as in the account's market
    # A parent's pause, the last one; over if its end has passed. NULL: none, or it was lifted.
    _instant("paused_at"),
    _instant("paused_until"),
    # Grows with every change that a decision depends on: settings, grants, the profile itself.
    Column("policy_version", BigInteger, nullable=False, server_default="1"),
    _instant("policy_changed_at", nullable=False, server_default=func.now(), index=True),
    _instant("created_at", nullable=False, server_default=func.now()),
    Column("external_id", String(255)),  # the platform's own, canonical (domain.external_ids)
    Index("ix_profiles_account_id_external_id", "account_id", "external_id", unique=True),
    # A UUID is one profile's in the whole deployment, whoever gave it.
    Index(
        "ix_profiles_external_uuid",
        "external_id",
        unique=True,
        postgresql_where=text("external_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'"),
    ),
)

viewing_time_configs = Table(
    "viewing_time_configs",
    metadata,
    _uuid("profile_id", ForeignKey("profiles.id", ondelete="CASCADE"), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("weekday_limit_minutes", SmallInteger),
    Column("weekend_limit_minutes", SmallInteger),
    Column("reset_hour", SmallInteger, nullable=False),
    Column("timezone", String(50), nullable=False),
    Column("educational_exempt", Boolean, nullable=False),
    Column("warning_minutes", JSONB, nullable=False),
    Column("limits_reviewed", Boolean, nullable=False, server_default=text("false")),
    # domain.viewing_day.Calendar as JSON: the running day when it last changed, and the rules since.
    Column("calendar", JSONB, nullable=False),
    # domain.limits.LimitRules as JSON; NULL for settings that use none.
    Column("rules", JSONB(none_as_null=True)),
    _instant("updated_at", nullable=False, server_default=func.now()),
    CheckConstraint("(weekday_limit_minutes IS NULL) = (weekend_limit_minutes IS NULL)", name="both_limits_or_neither"),
    CheckConstraint("weekday_limit_minutes BETWEEN 15 AND 480", name="weekday_limit_range"),
    CheckConstraint("weekend_limit_minutes BETWEEN 15 AND 480", name="weekend_limit_range"),
    CheckConstraint("reset_hour BETWEEN 0 AND 23", name="reset_hour_range"),
)

viewing_time_config_history = Table(
    "viewing_time_config_history",
    metadata,
    _uuid("profile_id", ForeignKey("profiles.id", ondelete="CASCADE"), primary_key=True),
    Column("version", BigInteger, primary_key=True),
    Column("weekday_limit_minutes", SmallInteger),
    Column("weekend_limit_minutes", SmallInteger),
    Column("educational_exempt", Boolean),  # NULL: from before it was kept
    Column("rules", JSONB(none_as_null=True)),
    _instant("valid_from", nullable=False, index=True),
)

titles = Table(
    "titles",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(300), nullable=False),
    Column("is_educational", Boolean, nullable=False),
    Column("duration_seconds", Integer),
    _instant("updated_at", nullable=False, server_default=func.now()),
    # No longer in the catalogue; history still shows its name.
    _instant("removed_at", index=True),
)

time_grants = Table(
    "time_grants",
    metadata,
    _uuid("id", primary_key=True),
    _uuid("profile_id", ForeignKey("profiles.id", ondelete="CASCADE"), nullable=False),
    Column("day", Date, nullable=False),
    Column("minutes", SmallInteger),  # NULL: unlimited until the day ends
    # By how much the child was over its allowance; it comes on top of the minutes.
    Column("covered_ms", BigInteger, nullable=False, server_default="0"),
    Column("granted_by", String(100), nullable=False),
    Column("is_remote", Boolean, nullable=False),
    _instant("granted_at", nullable=False),
    _instant("revoked_at"),
    CheckConstraint("minutes IN (15, 30, 60)", name="minutes_offered"),
    Index(None, "profile_id", "day"),
    Index(None, "granted_at"),
)

extra_time_requests = Table(
    "extra_time_requests",
    metadata,
    _uuid("id", primary_key=True),
    _uuid("profile_id", ForeignKey("profiles.id", ondelete="CASCADE"), nullable=False),
    Column("day", Date, nullable=False),
    Column("minutes", SmallInteger, nullable=False),
    Column("note", String(200)),
    Column("status", String(10), nullable=False, server_default="open"),
    _instant("requested_at", nullable=False),
    _instant("decided_at"),
    _instant("expires_at", nullable=False),
    _uuid("grant_id"),
    CheckConstraint("status IN ('open', 'approved', 'denied')", name="status_known"),
    Index(None, "profile_id", "day"),
    Index(None, "requested_at"),
)

devices = Table(
    "devices",
    metadata,
    _uuid("id", primary_key=True),
    _uuid("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", String(100), nullable=False),
    Column("role", String(10), nullable=False, server_default="parent"),  # parent or caregiver
    Column("daily_grant_minutes", SmallInteger),  # the budget of a caregiver
    _instant("created_at", nullable=False),
    _instant("expires_at", nullable=False, index=True),
    _instant("revoked_at"),
)

sign_ins = Table(
    "sign_ins",
    metadata,
    _uuid("id", primary_key=True),
    _uuid("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("device_name", String(100)),
    _instant("created_at", nullable=False),
    _instant("refreshed_at", nullable=False),
    _instant("expires_at", nullable=False, index=True),  # the newest refresh token
    Column("serial", Integer, nullable=False),  # of the newest refresh token
    _instant("ended_at", index=True),
)

lockouts = Table(
    "lockouts",
    metadata,
    _uuid("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", String(10), primary_key=True),  # pin or password
    # Instants (ms) of the last wrong attempts, ascending.
    Column("tried_ms", ARRAY(BigInteger), nullable=False),
    # Comparisons under way: when each was reserved (ms), by its id.
    Column("reserved_ms", JSONB, nullable=False, server_default="{}"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    _uuid("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(100), primary_key=True),
    # Whom the answer is about.
    _uuid("profile_id", ForeignKey("profiles.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("request_digest", LargeBinary, nullable=False),
    Column("status", SmallInteger),  # NULL while the first call runs
    Column("answer", JSONB),
    _instant("created_at", nullable=False, index=True),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    _uuid("account_id"),  # NULL: about no account, e.g. an operator who read the state of the flush
    _uuid("profile_id"),
    Column("actor", String(300), nullable=False),
    Column("action", String(50), nullable=False),
    Column("detail", JSONB),
    _instant("at", nullable=False, index=True),
    Index(None, "account_id", "at"),
)

erasure_tombstones = Table(
    "erasure_tombstones",
    metadata,
    _uuid("subject_id", primary_key=True),
    Column("kind", String(10), nullable=False),  # profile or account
    _instant("erased_at", nullable=False, index=True),
)

viewing_time_balances = Table(
    "viewing_time_balances",
    metadata,
    _uuid("profile_id", primary_key=True),
    Column("day", Date, primary_key=True),
    Column("starts_ms", BigInteger, nullable=False),
    Column("ends_ms", BigInteger, nullable=False),
    Column("limit_ms", BigInteger),
    Column("allowance_ms", BigInteger),
    Column("used_ms", BigInteger, nullable=False),
    Column("educational_ms", BigInteger, nullable=False),
    Column("overrun_ms", BigInteger, nullable=False),
    Column("abandoned_sessions", Integer, nullable=False, server_default="0"),
    Column("unbroken_ms", BigInteger, nullable=False, server_default="0"),
    Column("played_until_ms", BigInteger, nullable=False, server_default="0"),
    Column("borrowed_ms", BigInteger, nullable=False, server_default="0"),
    Column("owed_ms", BigInteger, nullable=False, server_default="0"),
    Column("finish_until_ms", BigInteger, nullable=False, server_default="0"),
    Column("version", BigInteger, nullable=False),
    # Credited from offline playback. These are policy: offline sync alone writes them, the flush never does.
    Column("offline_used_ms", BigInteger, nullable=False, server_default="0"),
    Column("offline_educational_ms", BigInteger, nullable=False, server_default="0"),
    Column("offline_overrun_ms", BigInteger, nullable=False, server_default="0"),
    # Charged for batches of a wrong clock, beyond what was watched. Policy as well.
    Column("penalty_ms", BigInteger, nullable=False, server_default="0"),
    CheckConstraint("used_ms >= 0 AND educational_ms >= 0 AND overrun_ms >= 0", name="not_negative"),
    CheckConstraint("ends_ms > starts_ms", name="day_has_length"),
    postgresql_partition_by="RANGE (day)",
)

viewing_sessions = Table(
    "viewing_sessions",
    metadata,
    # One row per session and viewing day: a session that crosses a reset has a row for its share of each day.
    _uuid("id", primary_key=True),
    Column("day", Date, primary_key=True),
    _instant("started_at", primary_key=True),  # of the part in this day
    _uuid("profile_id", nullable=False),
    Column("title_id", String(64), nullable=False),
    Column("is_educational", Boolean, nullable=False),
    Column("device_id", String(100), nullable=False),
    Column("device_type", String(10), nullable=False),
    Column("session_started_ms", BigInteger, nullable=False),
    Column("last_beat_ms", BigInteger, nullable=False),
    Column("has_ended", Boolean, nullable=False),
    Column("paused_since_ms", BigInteger, nullable=False),
    Column("watched_ms", BigInteger, nullable=False),
    Column("used_ms", BigInteger, nullable=False),
    Column("educational_ms", BigInteger, nullable=False),
    Column("overrun_ms", BigInteger, nullable=False),
    Column("earlier_ms", BigInteger, nullable=False),
    Column("lease_ms", BigInteger, nullable=False, server_default="0"),  # of an opening without a second beat
    # The time ranges of this part in which nothing was counted: from, to, from, to, ascending.
    Column("uncounted_ms", ARRAY(BigInteger), nullable=False, server_default="{}"),
    Column("version", BigInteger, nullable=False),
    CheckConstraint("used_ms >= 0 AND educational_ms >= 0 AND overrun_ms >= 0", name="not_negative"),
    Index(None, "profile_id", text("started_at DESC")),
    postgresql_partition_by="RANGE (started_at)",
)

offline_batches = Table(
    "offline_batches",
    metadata,
    _uuid("profile_id", ForeignKey("profiles.id", ondelete="CASCADE"), primary_key=True),
    Column("batch_id", String(64), primary_key=True),
    Column("device_id", String(100), nullable=False),
    Column("is_tampered", Boolean, nullable=False),
    Column("credited_ms", JSONB, nullable=False),  # per interval, in the order sent
    Column("penalty_ms", BigInteger, nullable=False, server_default="0"),
    _instant("synced_at", nullable=False, index=True),
)

offline_intervals = Table(
    "offline_intervals",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    _uuid("profile_id", ForeignKey("profiles.id", ondelete="CASCADE"), nullable=False),
    Column("title_id", String(64), nullable=False),
    Column("starts_ms", BigInteger, nullable=False),
    Column("ends_ms", BigInteger, nullable=False),
    Column("credited_ms", BigInteger, nullable=False),
    # A part as a session of its viewing day: NULL where nothing was credited, and in rows from before it was kept.
    _uuid("session_id"),
    Column("device_id", String(100)),
    Column("day", Date),
    Column("is_educational", Boolean, nullable=False, server_default="false"),
    # Of credited_ms; the rest was counted.
    Column("educational_ms", BigInteger, nullable=False, server_default="0"),
    Column("overrun_ms", BigInteger, nullable=False, server_default="0"),
    # Named by a batch of a wrong clock: charged elsewhere, and never counted again.
    Column("is_settled", Boolean, nullable=False, server_default="false"),
    Index(None, "profile_id", "ends_ms"),
    Index(None, "profile_id", "starts_ms"),
    Index(None, "ends_ms"),
)

flush_state = Table(
    "flush_state",
    metadata,
    Column("bucket", Integer, primary_key=True),
    Column("watermark", BigInteger, nullable=False, server_default="0"),
    Column("generation", Integer, nullable=False, server_default="0"),
    _instant("flushed_at"),  # what was due then is written
)

parked_rows = Table(
    "parked_rows",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    _uuid("profile_id", nullable=False, index=True),
    Column("source", String(120), nullable=False),  # the field or key in Redis
    Column("counters", JSONB, nullable=False),
    Column("error", Text, nullable=False),
    _instant("parked_at", nullable=False, index=True),
    UniqueConstraint("source"),
)

weekly_reports = Table(
    "weekly_reports",
    metadata,
    _uuid("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("week_ending", Date, primary_key=True, index=True),
    Column("report", JSONB),  # NULL until it was made for the first time
    _instant("as_of"),
    # What the report does not know yet: 1 for a report to be made, and 1 more for each late change of its days.
    Column("changes", Integer, nullable=False),
    Index("ix_weekly_reports_changed", "week_ending", "account_id", postgresql_where=text("changes > 0")),
)

tamper_hints = Table(
    "tamper_hints",
    metadata,
    _uuid("profile_id", ForeignKey("profiles.id", ondelete="CASCADE"), primary_key=True),
    Column("day", Date, primary_key=True),
    _uuid("session_id", primary_key=True),
    Column("kind", String(40), primary_key=True),
    Column("device_id", String(100), nullable=False),
    _instant("noted_at", nullable=False, index=True),
)

feed_events = Table(
    "feed_events",
    metadata,
    _uuid("id", primary_key=True),  # of the cause: writing it again changes nothing
    Column("written", BigInteger, Identity(), nullable=False),  # the order of writing
    Column("position", BigInteger, unique=True),  # the order of reading; NULL until it is given
    Column("kind", String(50), nullable=False),
    _uuid("account_id", nullable=False, index=True),
    _uuid("profile_id"),  # NULL: of the account
    # The ids of the platform as they were then: an erased profile has none any more.
    Column("account_external_id", String(255)),
    Column("profile_external_id", String(255)),
    _instant("occurred_at", nullable=False),
    _instant("written_at", nullable=False, index=True),
    Column("facts", JSON, nullable=False),
    Index("ix_feed_events_unnumbered", "written", postgresql_where=text("position IS NULL")),
)

# What the worker has to look at again: sessions without an end so far, and days that are not closed yet.
feed_open_sessions = Table(
    "feed_open_sessions",
    metadata,
    _uuid("session_id", primary_key=True),
    _uuid("profile_id", nullable=False, index=True),
    Column("day", Date, nullable=False),
    _instant("started_at", nullable=False),  # of its newest part
)

feed_open_days = Table(
    "feed_open_days",
    metadata,
    _uuid("profile_id", primary_key=True),
    Column("day", Date, primary_key=True),
    Column("ends_ms", BigInteger, nullable=False, index=True),
)

webhook_receivers = Table(
    "webhook_receivers",
    metadata,
    _uuid("id", primary_key=True),
    Column("url", String(2000), nullable=False),
    Column("kinds", ARRAY(String(50))),  # NULL: all
    # Encrypted (kit.sealing); the one before signs as well for a while.
    Column("sealed_secret", LargeBinary, nullable=False),
    Column("sealed_previous", LargeBinary),
    _instant("previous_until"),
    Column("position", BigInteger, nullable=False),  # how far it has read the feed
    Column("is_enabled", Boolean, nullable=False, server_default=text("true")),
    Column("disabled_reason", String(50)),
    _instant("failing_since"),
    _instant("created_at", nullable=False),
)

# What a receiver has not accepted yet. It leaves with the event.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    _uuid("receiver_id", ForeignKey("webhook_receivers.id", ondelete="CASCADE"), primary_key=True),
    _uuid("event_id", ForeignKey("feed_events.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("attempts", Integer, nullable=False),
    _instant("first_at", nullable=False),
    _instant("next_at", nullable=False),
    _instant("dead_at"),
    Column("error", String(50)),
)

feed_state = Table(
    "feed_state",
    metadata,
    Column("only_row", Boolean, primary_key=True, server_default=text("true")),
    Column("last_position", BigInteger, nullable=False, server_default="0"),
    Column("removed_until", BigInteger, nullable=False, server_default="0"),  # by retention
    CheckConstraint("only_row", name="one_row"),
)

schema_compatibility = Table(
    "schema_compatibility",
    metadata,
    Column("only_row", Boolean, primary_key=True, server_default=text("true")),
    Column("compatible_from", String(32), nullable=False),  # the oldest revision whose code works on this schema
    CheckConstraint("only_row", name="one_row"),
)
