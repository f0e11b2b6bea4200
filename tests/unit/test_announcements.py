"""A committed change stays committed when its announcement fails."""

from collections.abc import Mapping, Sequence
from datetime import date

import pytest

from app.domain.grants import ExtraTimeRequest, RequestStatus
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
    """Records announcements, unless it is unreachable."""

    def __init__(self, *, is_away: bool = False) -> None:
        self._is_away = is_away
        self.heard: list[object] = []

    async def announce(self, policies: Sequence[Policy]) -> None:
        self._hear(*policies)

    async def announce_household(self, account_id: str) -> None:
        self._hear(account_id)

    async def add(self, profile_id: str, kind: str, facts: Mapping[str, object], *, at_ms: int) -> None:
        self._hear((profile_id, kind, dict(facts), at_ms))

    async def wake(self, profile_ids: Sequence[str]) -> None:
        self._hear(*profile_ids)

    def _hear(self, *news: object) -> None:
        if self._is_away:
            raise CountersUnavailable
        self.heard += news


async def test_the_policy_as_it_stands_is_announced() -> None:
    town = Town()
    announcements = Announcements(policies=Owner(), announcer=town, events=town)
    await announcements.changed("child")
    await announcements.announce(CHILD)
    assert town.heard == [CHILD, CHILD]


async def test_a_request_wakes_those_who_watch_the_child() -> None:
    town = Town()
    await Announcements(policies=Owner(), announcer=town, events=town).request_made("child")
    assert town.heard == ["child"]


async def test_an_erased_profile_has_nothing_to_announce() -> None:
    town = Town()
    await Announcements(policies=Owner(), announcer=town, events=town).changed("gone")
    assert town.heard == []


@pytest.mark.parametrize(("owner", "town"), [(Owner(is_away=True), Town()), (Owner(), Town(is_away=True))])
async def test_a_failure_is_not_the_parents(owner: Owner, town: Town) -> None:
    announcements = Announcements(policies=owner, announcer=town, events=town)
    await announcements.changed("child")
    await Announcements(policies=Owner(), announcer=Town(is_away=True), events=Town()).announce(CHILD)
    assert town.heard == []


REQUEST = ExtraTimeRequest(
    request_id="r",
    minutes=30,
    note="please",
    day=date(2026, 3, 2),
    status=RequestStatus.APPROVED,
    requested_ms=1,
    expires_ms=9,
    decided_ms=5,
    grant_id="g",
)


async def test_a_child_hears_the_answer_without_its_own_words() -> None:
    town = Town()
    await Announcements(policies=Owner(), announcer=town, events=town).request_answered("child", REQUEST, at_ms=5)
    facts = {"request_id": "r", "status": "approved", "minutes": 30, "grant_id": "g"}
    assert town.heard == [("child", "request_answered", facts, 5)]


async def test_an_answer_that_cannot_be_told_stays_an_answer() -> None:
    away = Town(is_away=True)
    await Announcements(policies=Owner(), announcer=away, events=away).request_answered("child", REQUEST, at_ms=5)
    assert away.heard == []
