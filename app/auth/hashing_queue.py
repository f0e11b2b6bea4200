"""The order in which secrets are hashed: fair between kinds of work, and between the accounts of a kind."""

from collections import Counter, OrderedDict, deque
from enum import StrEnum
from typing import Generic, TypeVar

from app.errors import TooManyRequests

Work = TypeVar("Work")
MAX_PLACES_OF_AN_ACCOUNT = 10
"""As many comparisons as the lockout lets one account have at a time."""


class HashingKind(StrEnum):
    """What is hashed. A sign-in or a registration proves nothing before; the others have a token."""

    PIN = "pin"
    PASSWORD = "password"  # noqa: S105  a kind
    SIGN_IN = "sign_in"


class HashingQueue(Generic[Work]):
    """Work that waits: kinds take turns, and within a kind accounts take turns.

    A caller takes a place first, and may put its work in later. So work that was begun is never refused.

    Args:
        places: how many may be taken. Sign-ins may take half of them, because anybody can send those.
    """

    def __init__(self, places: int) -> None:
        self._free = dict.fromkeys(HashingKind, places) | {HashingKind.SIGN_IN: max(1, places // 2)}
        self._places = places
        self._taken: Counter[tuple[HashingKind, str]] = Counter()
        self._waiting: OrderedDict[HashingKind, OrderedDict[str, deque[Work]]] = OrderedDict()

    @property
    def taken(self) -> int:
        """Places that are taken."""
        return self._taken.total()

    def take_place(self, kind: HashingKind, account_id: str) -> None:
        """Raises TooManyRequests: too many are taken, by all, by this kind or by this account."""
        is_full = self.taken >= self._places or self._free[kind] == 0
        if is_full or self._taken[kind, account_id] >= MAX_PLACES_OF_AN_ACCOUNT:
            raise TooManyRequests
        self._free[kind] -= 1
        self._taken[kind, account_id] += 1

    def give_back(self, kind: HashingKind, account_id: str) -> None:
        self._free[kind] += 1
        self._taken[kind, account_id] -= 1
        self._taken += Counter()  # without those that have none

    def put(self, kind: HashingKind, account_id: str, work: Work) -> None:
        self._waiting.setdefault(kind, OrderedDict()).setdefault(account_id, deque()).append(work)

    def remove(self, kind: HashingKind, account_id: str, work: Work) -> None:
        """Forget work, if it still waits."""
        accounts = self._waiting.get(kind, OrderedDict())
        if work in accounts.get(account_id, ()):
            accounts[account_id].remove(work)
            self._forget_empty(kind, account_id)

    def next(self) -> Work | None:
        """The work whose turn it is; None when none waits."""
        if not self._waiting:
            return None
        kind, accounts = next(iter(self._waiting.items()))
        account_id, works = next(iter(accounts.items()))
        work = works.popleft()
        self._waiting.move_to_end(kind)
        accounts.move_to_end(account_id)
        self._forget_empty(kind, account_id)
        return work

    def _forget_empty(self, kind: HashingKind, account_id: str) -> None:
        accounts = self._waiting[kind]
        if not accounts[account_id]:
            del accounts[account_id]
        if not accounts:
            del self._waiting[kind]
