"""What has ended is refused here at once, and everywhere as soon as the others can be told."""

import asyncio
from collections.abc import Iterable

import pytest

from app.auth import sign_ins
from app.auth.devices import Revoked
from app.auth.ports import Device
from app.auth.sign_ins import Ended, EndedSignIns
from app.errors import CountersUnavailable


class _Store:
    """What the database knows; a load can be held up."""

    def __init__(self, *known: str) -> None:
        self.known = list(known)
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.is_asked = asyncio.Event()

    async def revoked(self, *, at_ms: int) -> list[str]:
        found = list(self.known)
        self.is_asked.set()
        await self.may_answer.wait()
        return found

    async def add(self, account_id: str, device: Device, *, most: int, actor: str) -> None:
        raise NotImplementedError

    async def of_account(self, account_id: str, *, at_ms: int) -> list[Device]:
        raise NotImplementedError

    async def revoke(self, account_id: str, device_id: str, *, actor: str, at_ms: int) -> bool:
        raise NotImplementedError


class _Announcer:
    """Cannot tell anybody for the first calls."""

    def __init__(self, *, failures: int) -> None:
        self.failures = failures
        self.told: list[str] = []
        self.has_told = asyncio.Event()

    async def announce_ended(self, *, sign_in_ids: Iterable[str], device_ids: Iterable[str]) -> None:
        if self.failures:
            self.failures -= 1
            raise CountersUnavailable
        self.told += [*sign_in_ids, *device_ids]
        self.has_told.set()


async def test_processes_that_cannot_be_told_are_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_ins, "_RETRY_SECONDS", 0)
    revoked, announcer = Revoked(_Store(), lambda: 0), _Announcer(failures=3)
    ended = EndedSignIns(revoked, announcer)
    await ended.add(Ended(sign_in_ids=("tv",), device_ids=("phone",)))
    assert "tv" in revoked
    assert "phone" in revoked
    await asyncio.wait_for(announcer.has_told.wait(), 5)
    assert announcer.told == ["tv", "phone"]
    await ended.close()


async def test_closing_ends_the_retries() -> None:
    ended = EndedSignIns(Revoked(_Store(), lambda: 0), _Announcer(failures=1))
    await ended.add(Ended(sign_in_ids=("tv",)))
    await asyncio.wait_for(ended.close(), 5)
    assert not ended._retries


async def test_a_load_forgets_what_no_token_can_belong_to() -> None:
    store = _Store("old", "kept")
    revoked = Revoked(store, lambda: 0)
    await revoked.load()
    store.known = ["kept"]
    await revoked.load()
    assert "old" not in revoked
    assert "kept" in revoked


async def test_what_is_told_during_a_load_is_not_forgotten_by_it() -> None:
    store = _Store("known")
    revoked = Revoked(store, lambda: 0)
    revoked.add("before")
    store.may_answer.clear()
    loading = asyncio.create_task(revoked.load())
    await store.is_asked.wait()
    revoked.add("meanwhile")
    store.may_answer.set()
    await loading
    assert [word in revoked for word in ("known", "meanwhile", "before")] == [True, True, False]
