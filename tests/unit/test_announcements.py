"""What is committed stays committed when nobody can be told."""

from collections.abc import Sequence

import pytest

from app.domain.policy import Policy
from app.errors import CountersUnavailable, DatabaseUnavailable
from app.parents.announcements import Announcements

CHILD = Policy("child", "account", 4, True, 1, 120, 180, True, (15, 5), None)


class Owner:
    """Policies of PostgreSQL."""

    def __init__(self, *, is_away: bool = False) -> None:
        self._is_away = is_away

    async def load(self, profile_ids: Sequence[str]) -> list[Policy | None]:
        if self._is_away:
            raise DatabaseUnavailable
        return [CHILD if profile_id == CHILD.profile_id else None for profile_id in profile_ids]


class Town:
    """Hears what is announced, if it can be reached."""

    def __init__(self, *, is_away: bool = False) -> None:
        self._is_away = is_away
        self.heard: list[object] = []

    async def announce(self, policies: Sequence[Policy]) -> None:
        self._hear(*policies)

    async def announce_household(self, account_id: str) -> None:
        self._hear(account_id)

    def _hear(self, *news: object) -> None:
        if self._is_away:
            raise CountersUnavailable
        self.heard += news


async def test_the_policy_as_it_stands_is_announced() -> None:
    town = Town()
    announcements = Announcements(policies=Owner(), announcer=town)
    await announcements.changed("child")
    await announcements.announce(CHILD)
    assert town.heard == [CHILD, CHILD]


async def test_an_erased_profile_has_nothing_to_announce() -> None:
    town = Town()
    await Announcements(policies=Owner(), announcer=town).changed("gone")
    assert town.heard == []


@pytest.mark.parametrize(("owner", "town"), [(Owner(is_away=True), Town()), (Owner(), Town(is_away=True))])
async def test_a_failure_is_not_the_parents(owner: Owner, town: Town) -> None:
    announcements = Announcements(policies=owner, announcer=town)
    await announcements.changed("child")
    await Announcements(policies=Owner(), announcer=Town(is_away=True)).announce(CHILD)
    assert town.heard == []
