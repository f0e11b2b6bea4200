"""An erasure stays valid when its announcement fails; erasing an account needs a password."""

import pytest

from app.domain.erasure import Erased, ErasureReceipt
from app.errors import CountersUnavailable, WrongPassword
from app.privacy.erasure import Erasure, remove_again

HOUR_MS = 3_600_000
RECEIPT = ErasureReceipt(erased_at_ms=0, counts={"profiles": 1})
FAMILY = Erased(("child", "other"), ("account",))


class Ledger:
    def __init__(self) -> None:
        self.erased: list[str] = []
        self.since_ms = 0

    async def profile(self, account_id: str, profile_id: str, *, actor: str, at_ms: int) -> ErasureReceipt:
        self.erased.append(profile_id)
        return RECEIPT

    async def account(self, account_id: str, *, at_ms: int) -> tuple[ErasureReceipt, Erased]:
        self.erased.append(account_id)
        return RECEIPT, FAMILY

    async def erased_since(self, at_ms: int) -> Erased:
        self.since_ms = at_ms
        return FAMILY


class CopyEraser:
    def __init__(self, *, is_away: bool = False) -> None:
        self._is_away = is_away
        self.announced: list[Erased] = []
        self.removed: list[Erased] = []

    async def announce(self, erased: Erased, *, household: str) -> None:
        if self._is_away:
            raise CountersUnavailable
        self.announced.append(erased)

    async def remove(self, erased: Erased) -> None:
        if self._is_away:
            raise CountersUnavailable
        self.removed.append(erased)


class Passwords:
    async def check_owner(self, account_id: str, password: str | None, *, has_just_signed_in: bool = False) -> None:
        if password != "right":
            raise WrongPassword


def _erasure(ledger: Ledger, traces: CopyEraser, ended: set[str]) -> Erasure:
    return Erasure(ledger, traces=traces, passwords=Passwords(), ended=ended, clock=lambda: 0)


@pytest.mark.parametrize("is_away", [False, True])
async def test_a_family_is_erased_whether_or_not_redis_can_be_told(*, is_away: bool) -> None:
    ledger, traces, ended = Ledger(), CopyEraser(is_away=is_away), set[str]()
    erasure = _erasure(ledger, traces, ended)
    assert await erasure.profile("account", "child", actor="parent") == RECEIPT
    assert await erasure.account("account", password="right") == RECEIPT
    assert ledger.erased == ["child", "account"]
    assert ended == {"account"}
    expected = [] if is_away else [Erased(("child",)), FAMILY]
    assert traces.announced == traces.removed == expected


async def test_a_wrong_password_erases_nothing() -> None:
    ledger, traces, ended = Ledger(), CopyEraser(), set[str]()
    with pytest.raises(WrongPassword):
        await _erasure(ledger, traces, ended).account("account", password="wrong")
    assert (ledger.erased, traces.removed, ended) == ([], [], set())


async def test_the_worker_removes_again_for_two_days_and_says_when_it_cannot() -> None:
    ledger, traces = Ledger(), CopyEraser()
    await remove_again(ledger, traces, at_ms=100 * HOUR_MS)
    assert (ledger.since_ms, traces.removed) == (52 * HOUR_MS, [FAMILY])
    with pytest.raises(CountersUnavailable):
        await remove_again(ledger, CopyEraser(is_away=True), at_ms=100 * HOUR_MS)
