"""docs/privacy.md lists everything that is stored, and what it says of erasure and retention holds for all of it."""

import inspect
import re
from pathlib import Path

from app.domain.keeping import Keeping
from app.postgres_store import tables
from app.postgres_store.of_profile import KINDS
from app.redis_store import keys
from app.redis_store.keys import Keys

_TEXT = (Path(__file__).parents[2] / "docs" / "privacy.md").read_text(encoding="utf-8")
_NAME = re.compile(r"`(\w+)`")
_NOT_PERSONAL = set(re.findall(r"^- `(\w+)`: ", _TEXT.partition("### Not personal")[2], re.MULTILINE))


def _section(title: str) -> str:
    """What stands below a heading, up to the next one."""
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
    assert {"titles", "flush_state"} == _NOT_PERSONAL
    for name in _NOT_PERSONAL:
        assert not {"profile_id", "account_id", "subject_id", "device_id"} & set(tables.metadata.tables[name].c.keys())


def test_every_key_of_redis_is_listed() -> None:
    by_profile = {name for name, _ in inspect.getmembers(Keys, inspect.isfunction)} - {
        "__init__",
        "bucket",
        "live_in",
        "policy_in",
        "any_live",
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
    names["settings_history"] = "viewing_time_config_history"
    by_age = {names.get(kind, kind) for kind in Keeping().lives_ms}
    assert of_the_family | by_the_partition | by_age | _NOT_PERSONAL == set(tables.metadata.tables)
