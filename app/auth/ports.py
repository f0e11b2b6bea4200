"""What identity needs from the outside, and the values that cross."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from app.auth.lockout_rules import Admission, Reservation, Rule


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A household. ``email`` is lower-case. All its sign-ins ended at an instant, or never did."""

    id: str
    email: str
    password_hash: str
    timezone: str
    sign_ins_ended_at_ms: int | None = None


class Accounts(Protocol):
    """Every call may raise DatabaseUnavailable."""

    async def add(self, account: Account, *, at_ms: int) -> None:
        """Keep a new account. Raises EmailTaken."""
        ...

    async def by_email(self, email: str) -> Account | None: ...

    async def exists(self, account_id: str) -> bool: ...


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device that acts as a parent, or as a caregiver who may grant ``daily_grant_minutes`` on a day of the account.

    ``granted_minutes`` is what it has granted on the running one.
    """

    id: str
    name: str
    created_at_ms: int
    expires_at_ms: int
    daily_grant_minutes: int | None = None
    granted_minutes: int = 0

    @property
    def is_caregiver(self) -> bool:
        return self.daily_grant_minutes is not None


class DeviceStore(Protocol):
    """Every call may raise DatabaseUnavailable."""

    async def add(self, account_id: str, device: Device, *, most: int, actor: str) -> None:
        """Keep a new device. Raises TooManyDevices, and Unauthenticated when the account is gone."""
        ...

    async def of_account(self, account_id: str, *, at_ms: int) -> list[Device]:
        """Those that are neither revoked nor expired, oldest first."""
        ...

    async def revoke(self, account_id: str, device_id: str, *, actor: str, at_ms: int) -> bool:
        """Whether the account has or had this device; it is revoked now."""
        ...

    async def revoked(self, *, at_ms: int) -> list[str]:
        """Every device and sign-in whose tokens would be valid had it not ended, and every account that was erased."""
        ...


class Revocations(Protocol):
    async def announce(self, device_id: str) -> None:
        """Tell every process. Raises CountersUnavailable."""
        ...


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """The hashes of an account. One whose people sign in at the platform has no password."""

    password_hash: str | None
    pin_hash: str | None


class AccountSecrets(Protocol):
    """Every call may raise DatabaseUnavailable."""

    async def secrets(self, account_id: str) -> Secrets | None: ...

    async def set_pin(
        self, account_id: str, pin_hash: str, *, instead_of: str | None, actor: str, action: str, at_ms: int
    ) -> bool:
        """Keep a PIN unless another has taken the place of ``instead_of`` meanwhile."""
        ...


class Unlocks(Protocol):
    """Every call may raise CountersUnavailable."""

    async def add(self, account_id: str, digest: str, *, at_ms: int, until_ms: int) -> None: ...

    async def holds(self, account_id: str, digest: str, *, at_ms: int) -> bool: ...

    async def end_all(self, account_id: str) -> None: ...


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """``most`` requests within ``window_ms``, all at once or spread; what was used comes back evenly."""

    name: str
    most: int
    window_ms: int


class QuotaState(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of a quota, and when it is whole again."""

    left: int
    whole_in_ms: int


class QuotaAdmission(msgspec.Struct, frozen=True, kw_only=True):
    """``wait_ms`` is 0 for a request that may pass; one that may not was not counted. One standing for each quota."""

    wait_ms: int
    standings: tuple[QuotaState, ...]


class Rates(Protocol):
    async def admit(self, account_id: str, quotas: Sequence[Quota], holders: Sequence[str]) -> QuotaAdmission:
        """Count a request against the quota of each holder, all or none. Raises CountersUnavailable."""
        ...


class Attempts(Protocol):
    """What all processes share; it may forget. Every call may raise CountersUnavailable."""

    async def reserve(self, subject_id: str, rule: Rule, reservation: Reservation) -> Admission: ...

    async def conclude(
        self, subject_id: str, rule: Rule, reservation: Reservation, *, is_right: bool | None
    ) -> None: ...

    async def know(self, subject_id: str, rule: Rule, reservation: Reservation, tried_ms: Sequence[int]) -> None:
        """Give back a reservation, and learn which wrong tries count."""
        ...

    async def clear(self, subject_id: str, rule: Rule) -> None: ...


class AttemptStore(Protocol):
    """The same where it is safe, for accounts only. Every call may raise DatabaseUnavailable."""

    async def reserve(self, subject_id: str, rule: Rule, reservation: Reservation) -> tuple[Admission, Sequence[int]]:
        """Whether a comparison may be made, and the instants (ms) of the wrong tries that count."""
        ...

    async def conclude(
        self, subject_id: str, rule: Rule, reservation: Reservation, *, is_right: bool | None
    ) -> None: ...

    async def read(self, subject_id: str, kind: str) -> list[int]:
        """The instants (ms) of the wrong tries, ascending."""
        ...

    async def clear(self, subject_id: str, kind: str) -> None: ...


class HashStore(Protocol):
    """Where hashes are kept. The call may raise DatabaseUnavailable."""

    async def renew_hash(self, account_id: str, kind: str, *, old: str, new: str) -> None:
        """Keep another hash of the same secret, if the old one is still there."""
        ...
