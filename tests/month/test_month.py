"""A household's month on real servers, with every rule on and Redis lost twice, agrees with the oracle."""

from datetime import date

import pytest

from app.embedded.valkey import Valkey
from tests.month.scene import a_month
from tests.servers import Databases

AUTUMN, SPRING = date(2026, 10, 1), date(2026, 3, 5)
"""Oslo, New York and Lord Howe change their clocks within 33 days of each."""


EVERY_RULE = {f"beat blocked {rule}" for rule in ("daily_limit", "weekly_limit", "window", "parent_pause", "break")}
EVERY_DEED = {
    *("grant", "revoke", "approved", "budget exhausted", "pause", "pause of all", "lift", "settings", "sync"),
    *("refused", "beat that borrows", "beat of a day that owes"),
}


async def test_a_month_agrees_with_the_oracle(postgres: Databases, valkey: Valkey) -> None:
    told = await _lived(postgres, valkey, seed=1, first=AUTUMN, days=30)
    assert (EVERY_RULE | EVERY_DEED) - told.keys() == set()


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(2, 22))
async def test_many_months_agree_with_the_oracle(postgres: Databases, valkey: Valkey, seed: int) -> None:
    await _lived(postgres, valkey, seed=seed, first=AUTUMN if seed % 2 else SPRING, days=33)


async def _lived(postgres: Databases, valkey: Valkey, *, seed: int, first: date, days: int) -> dict[str, int]:
    """What happened in a month, and how often."""
    async with a_month(postgres.fresh(), valkey.url, seed=seed, first=first, days=days) as month:
        month.plan()
        await month.passes()
        await month.is_kept()
    assert month.losses == 2, "sessions ran when Redis was lost"
    return month.told
