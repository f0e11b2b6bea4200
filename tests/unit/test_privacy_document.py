"""docs/reference/privacy.md lists all stored data, and its statements on erasure and retention are true."""

import inspect
import re
from pathlib import Path

import pytest

from app.auth.devices import DEVICE_SECONDS
from app.auth.lockout_rules import PIN
from app.auth.pins import UNLOCK_SECONDS
from app.domain.counters import MAX_UNKNOWN_MS
from app.domain.idempotency import KEY_LIFE_MS
from app.domain.retention import RetentionPolicy
from app.domain.viewing_day import DAY_MS
from app.postgres_store import tables
from app.postgres_store.profile_tables import ACCOUNT_KINDS, KINDS
from app.privacy import erasure, retention
from app.redis_store import keys
from app.redis_store.adults import MAX_SESSIONS
from app.redis_store.keys import Keys
from app.settings.settings import Settings
from app.viewing import offline

_TEXT = (Path(__file__).parents[2] / "docs" / "reference" / "privacy.md").read_text(encoding="utf-8")
_NAME = re.compile(r"`(\w+)`")
_NOT_PERSONAL = set(re.findall(r"^- `(\w+)`: ", _TEXT.partition("### Not personal")[2], re.MULTILINE))


def _section(title: str) -> str:
    """The text below a heading, up to the next one."""
    return re.split(r"^##", _TEXT.partition(f"{title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def _first_cells(section: str) -> list[str]:
    """The names in the first column of a table."""
    return [
        name for line in section.splitlines() if line.startswith("| `") for name in _NAME.findall(line.split("|")[1])
    ]


def test_every_column_of_every_table_is_listed() -> None:
    for name, table in tables.metadata.tables.items():
        if name not in _NOT_PERSONAL:
            assert sorted(_first_cells(_section(f"### `{name}`"))) == sorted(table.c.keys()), name


def test_what_is_not_personal_refers_to_nobody() -> None:
    assert {
        "titles",
        "feed_state",
        "flush_state",
        "webhook_receivers",
        "webhook_deliveries",
        "schema_compatibility",
    } == _NOT_PERSONAL
    for name in _NOT_PERSONAL:
        assert not {"profile_id", "account_id", "subject_id", "device_id"} & set(tables.metadata.tables[name].c.keys())


def test_every_key_of_redis_is_listed() -> None:
    by_profile = {name for name, _ in inspect.getmembers(Keys, inspect.isfunction)} - {
        "__init__",
        "bucket",
        "counters_in",
        "unflushed",
        "policy_in",
        "any_counters",
        "slot",
    }
    by_account = {name for name, _ in inspect.getmembers(keys, inspect.isfunction)}
    assert set(_first_cells(_section("## What is kept in Redis"))) == by_profile | by_account


def test_every_table_of_a_profile_is_exported_and_erased() -> None:
    owned = {table for table in tables.metadata.tables.values() if "profile_id" in table.c}
    assert owned == {kind.table for kind in KINDS.values()}
    members = _first_cells(_section("## Export"))
    assert set(members) == {"exported_at", "profile", "counters", "weekly_reports", *KINDS}


def test_rows_of_an_export_have_an_order() -> None:
    for kind in KINDS.values():
        unique = {column.name for column in kind.table.primary_key} - {"profile_id", "account_id"}
        assert unique <= set(kind.key) or kind.table is tables.viewing_time_configs


def test_everything_leaves_some_day() -> None:
    """By age, by the partition, or together with the family."""
    of_the_family = {"accounts", "profiles", "viewing_time_configs"}
    by_the_partition = {"viewing_sessions", "viewing_time_balances"}
    names = {"grants": "time_grants", "requests": "extra_time_requests", "tombstones": "erasure_tombstones"}
    names |= {"settings_history": "viewing_time_config_history", "removed_titles": "titles"}
    by_age = {names.get(kind, kind) for kind in RetentionPolicy().lives_ms}
    assert of_the_family | by_the_partition | by_age | _NOT_PERSONAL == set(tables.metadata.tables)


_HOUR_MS = 3_600_000
_FIELDS = Settings.model_fields
_KEPT = RetentionPolicy()
_NUMBERS = {
    "Sessions are kept for {} days, sums of days": _KEPT.session_days,
    "Offline playback is credited up to {} days back": offline._OLDEST_MS // DAY_MS,
    "between {} and 97 days old": _KEPT.session_days,
    "between 90 and {} days old": _KEPT.session_days + 7,
    "oldest sum between {} and": _KEPT.balance_days,
    "longer than sums of days ({} days unless set otherwise)": _KEPT.lives_ms["tombstones"] // DAY_MS,
    "longer than any token lives ({} days)": DEVICE_SECONDS * 1000 // DAY_MS,
    "may be taken up again ({} days)": MAX_UNKNOWN_MS // DAY_MS,
    "For {} hours the worker removes the keys again": erasure._AGAIN_MS // _HOUR_MS,
    "rows leave in batches of {:,}": retention._BATCH,
    "(`BGREWRITEAOF`) {} hours after an erasure": _FIELDS["erasure_rewrite_seconds"].default // 3600,
    "Until they expire after {} days": DEVICE_SECONDS * 1000 // DAY_MS,
    "| {} h after the last flush": _FIELDS["live_ttl_seconds"].default // 3600,
    "| {} h (`HOURGLASS_SHARED_POLICY_TTL_SECONDS`)": _FIELDS["shared_policy_ttl_seconds"].default // 3600,
    "an adult's running sessions, {} at most": MAX_SESSIONS,
    "| {} min after the last beat": _FIELDS["max_gap_seconds"].default // 60,
    "of comparisons under way | {} min |": max(PIN.window_ms, PIN.lock_ms) // 60_000,
    "digests of an account's unlocks | {} min |": UNLOCK_SECONDS // 60,
    "### `idempotency_keys`\n{} hours.": KEY_LIFE_MS // _HOUR_MS,
    "Seven days (`HOURGLASS_EVENT_FEED_DAYS`)": _KEPT.feed_days,
    "### `viewing_sessions`\n{} days": _KEPT.session_days,
    "### `offline_batches`\n{} days": _KEPT.lives_ms["offline_batches"] // DAY_MS,
    "### `offline_intervals`\n{} days": _KEPT.lives_ms["offline_intervals"] // DAY_MS,
    "### `parked_rows`\n{} days": _KEPT.lives_ms["parked_rows"] // DAY_MS,
}
"""Sentences of the page with the number that the code has for it."""


@pytest.mark.parametrize("sentence", _NUMBERS)
def test_the_page_has_the_numbers_of_the_code(sentence: str) -> None:
    said = re.sub(r"(?<!`)\n(?!#|\||\n)", " ", sentence.format(_NUMBERS[sentence]))
    page = re.sub(r"(?<!`)\n(?!#|\||\n)", " ", _TEXT)
    assert said in page


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        ("viewing_time_config_history", "settings_history"),
        ("time_grants", "grants"),
        ("extra_time_requests", "requests"),
        ("weekly_reports", "weekly_reports"),
        ("audit_log", "audit_log"),
    ],
)
def test_what_is_kept_for_a_year_is_said_to_be(table: str, kind: str) -> None:
    assert _section(f"### `{table}`").strip().startswith("A year")
    assert _KEPT.lives_ms[kind] == 365 * DAY_MS


def test_what_an_account_export_holds_is_listed() -> None:
    section = _section("## Export")
    assert all(f"`{name}`" in section for name in ("exported_at", "account", "profiles", *ACCOUNT_KINDS))
