"""Devices of parents: whoever holds one acts as a parent without the PIN, until it is revoked."""

import asyncio
from typing import Protocol
from uuid import uuid4

import msgspec
import structlog

from app.auth.pins import Pins
from app.auth.tokens import Role, Tokens
from app.clock import Clock
from app.errors import DatabaseUnavailable, Forbidden

DEVICE_SECONDS = 180 * 86_400
MOST_DEVICES = 20
_RETRY_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Device(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    created_at_ms: int
    expires_at_ms: int


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
        """Every device whose token would be valid had it not been revoked, and every account that was erased."""
        ...


class Revocations(Protocol):
    async def announce(self, device_id: str) -> None:
        """Tell every process. Raises CountersUnavailable."""
        ...


class Revoked:
    """Devices that were revoked and accounts that were erased, known to this process: their tokens no longer count.

    From the database, and since then by messages.
    """

    def __init__(self, store: DeviceStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._ids: set[str] = set()
        self._loading: asyncio.Task[None] | None = None

    def __contains__(self, holder_id: object) -> bool:
        return holder_id in self._ids

    def add(self, holder_id: str) -> None:
        self._ids.add(holder_id)

    async def load(self) -> None:
        """Raises DatabaseUnavailable."""
        self._ids.update(await self._store.revoked(at_ms=self._clock()))

    def load_soon(self) -> None:
        """Messages may have been missed: ask the database, until it answers."""
        if self._loading is None or self._loading.done():
            self._loading = asyncio.create_task(self._load_until_done(), name="revoked")

    async def close(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])

    async def _load_until_done(self) -> None:
        while True:
            try:
                return await self.load()
            except DatabaseUnavailable as error:
                log.warning("revoked_unknown", reason=error.code)
                await asyncio.sleep(_RETRY_SECONDS)


class Devices:
    """Gives out and takes back parent devices."""

    def __init__(
        self,
        store: DeviceStore,
        *,
        pins: Pins,
        tokens: Tokens,
        revoked: Revoked,
        revocations: Revocations,
        clock: Clock,
    ) -> None:
        self._store = store
        self._pins = pins
        self._tokens = tokens
        self._revoked = revoked
        self._revocations = revocations
        self._clock = clock

    async def add(self, account_id: str, *, name: str, pin: str, actor: str) -> tuple[Device, str]:
        """A new device and its token, which nobody can show again.

        Raises:
            TooManyDevices, and what ``Pins.check`` raises.
        """
        await self._pins.check(account_id, pin)
        at_ms = self._clock()
        device = Device(id=str(uuid4()), name=name, created_at_ms=at_ms, expires_at_ms=at_ms + DEVICE_SECONDS * 1000)
        await self._store.add(account_id, device, most=MOST_DEVICES, actor=actor)
        token = self._tokens.issue(
            account_id=account_id,
            role=Role.PARENT,
            at_s=at_ms // 1000,
            life_seconds=DEVICE_SECONDS,
            device_id=device.id,
        )
        return device, token

    async def of_account(self, account_id: str) -> list[Device]:
        return await self._store.of_account(account_id, at_ms=self._clock())

    async def revoke(self, account_id: str, device_id: str, *, actor: str) -> None:
        """Revoke a device, here at once and everywhere within a second. Repeating it does no harm.

        Raises:
            Forbidden: the account has no such device.
            CountersUnavailable: it is revoked, but not every process knows yet; repeat the call.
        """
        if not await self._store.revoke(account_id, device_id, actor=actor, at_ms=self._clock()):
            raise Forbidden("There is no such device on this account.")
        self._revoked.add(device_id)
        await self._revocations.announce(device_id)
