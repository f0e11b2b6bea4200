"""Which texts may be ids of the platform, and what a process does with them while it cannot ask."""

import random
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.external_ids import ExternalIds
from app.domain.external_ids import MAX_EXTERNAL_ID, canonical, is_acceptable, is_uuid
from app.domain.platform import AccountFacts
from app.errors import DatabaseUnavailable
from app.kit.ttl_cache import TtlCache


class World:
    """A database that may be away, and who was erased."""

    def __init__(self, **accounts: str) -> None:
        self.accounts = accounts
        self.is_away = False
        self.asked: list[str] = []
        self.revoked: set[str] = set()

    async def load(self, given: Sequence[str]) -> list[str | None]:
        if self.is_away:
            raise DatabaseUnavailable
        self.asked += given
        return [self.accounts.get(one) for one in given]

    async def nothing(self, given: Sequence[tuple[str, str]]) -> list[str | None]:
        return [None for _ in given]

    async def provision_on_sight(self, facts: AccountFacts, *, signed_in_ms: int | None, at_ms: int) -> str | None:
        if self.is_away:
            raise DatabaseUnavailable
        return self.accounts.setdefault(facts.external_id, str(uuid4()))

    def ids(self, *, makes: bool = False) -> ExternalIds:
        def remembering(load: object) -> TtlCache:  # type: ignore[type-arg]
            chance = random.Random(1)  # noqa: S311
            return TtlCache(load, ttl_ms=60_000, stale_ms=60_000, size=10, clock=lambda: 0, jitter=chance)  # type: ignore[arg-type]

        return ExternalIds(
            accounts=remembering(self.load),
            profiles=remembering(self.nothing),
            is_revoked=self.revoked.__contains__,
            first_sight=self if makes else None,
            clock=lambda: 0,
        )


@given(st.uuids())
def test_a_uuid_has_one_spelling(value: UUID) -> None:
    assert is_uuid(str(value))
    assert canonical(str(value).upper()) == canonical(str(value)) == str(value)
    assert canonical(value.hex) == value.hex, "no other form is a UUID to us"
    assert not is_uuid(value.hex)
    assert not is_uuid(value.urn)


@given(st.text(max_size=300))
def test_any_other_text_is_itself(text: str) -> None:
    assert canonical(text) == text or is_uuid(text.lower())
    assert not is_acceptable(text) or (text.isprintable() and 0 < len(text) <= MAX_EXTERNAL_ID)


async def test_a_uuid_is_ours_without_asking_until_its_account_was_erased() -> None:
    ours, next_one = str(uuid4()), str(uuid4())
    world = World()
    ids = world.ids()
    assert ids.peek_account(ours) == ours
    assert await ids.account(ours.upper()) == ours
    assert world.asked == []
    world.revoked.add(ours)
    assert ids.peek_account(ours) is None
    assert await ids.account(ours) is None
    world.accounts[ours] = next_one
    assert await ids.account(ours) == next_one
    assert ids.peek_account(ours) == next_one


async def test_an_id_is_asked_for_once_and_again_after_an_erasure() -> None:
    first, second = str(uuid4()), str(uuid4())
    world = World(kim=first)
    ids = world.ids()
    assert [await ids.account("kim") for _ in range(3)] == [first] * 3
    assert world.asked == ["kim"]
    world.revoked.add(first)
    assert ids.peek_account("kim") is None
    world.accounts["kim"] = second
    assert await ids.account("kim") == second


async def test_that_there_is_no_account_is_not_remembered() -> None:
    world = World()
    ids = world.ids()
    assert await ids.account("kim") is None
    world.accounts["kim"] = made = str(uuid4())
    assert await ids.account("kim") == made


@pytest.mark.parametrize("makes", [False, True])
async def test_who_is_known_goes_on_while_the_database_is_away(makes: bool) -> None:
    ours, known = str(uuid4()), str(uuid4())
    world = World(kim=known)
    ids = world.ids(makes=makes)
    assert await ids.account_of_token("kim", signed_in_s=0, timezone="UTC") == known
    world.is_away = True
    assert await ids.account_of_token("kim", signed_in_s=0, timezone="UTC") == known
    assert await ids.account_of_token(ours, signed_in_s=0, timezone="UTC") == ours
    with pytest.raises(DatabaseUnavailable):
        await ids.account_of_token("somebody else", signed_in_s=0, timezone="UTC")
    world.revoked.add(ours)
    with pytest.raises(DatabaseUnavailable):
        await ids.account_of_token(ours, signed_in_s=0, timezone="UTC")
