"""Devices of parents and caregivers. The holder needs no PIN, until the device is revoked."""

import asyncio
from collections.abc import Callable
from uuid import uuid4

import structlog

from app.auth.pins import Pins
from app.auth.ports import Device, DeviceStore, Revocations
from app.auth.tokens import Role, Tokens
from app.clock import Clock
from app.errors import DatabaseUnavailable, Forbidden

DEVICE_SECONDS = 180 * 86_400
MAX_DEVICES = 20
_RETRY_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Revoked:
    """Devices and sign-ins that have ended and accounts that were erased: their tokens no longer count here.

    From the database, and since then by messages.
    """

    def __init__(self, store: DeviceStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._ids: set[str] = set()
        self._added_while_loading: set[str] | None = None
        self._load_lock = asyncio.Lock()
        self._listeners: list[Callable[[str], None]] = []
        self._loading: asyncio.Task[None] | None = None

    def __contains__(self, holder_id: object) -> bool:
        return holder_id in self._ids

    def add(self, holder_id: str) -> None:
        """Refuse a device, sign-in or account from now on, and tell those who serve it at the moment."""
        if self._added_while_loading is not None:
            self._added_while_loading.add(holder_id)
        if holder_id in self._ids:
            return
        self._ids.add(holder_id)
        for listener in self._listeners:
            listener(holder_id)

    def listen(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with each device, sign-in or account that becomes known."""
        self._listeners.append(listener)

    async def load(self) -> None:
        """Learn what the database knows, forget what no token can belong to any more. Raises DatabaseUnavailable."""
        async with self._load_lock:
            self._added_while_loading = added = set[str]()
            try:
                found = await self._store.revoked(at_ms=self._clock())
            finally:
                self._added_while_loading = None
            for holder_id in found:
                self.add(holder_id)
            self._ids = {*found, *added}

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
    """Gives out and takes back the devices of parents and caregivers."""

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

    async def add(
        self, account_id: str, *, name: str, pin: str, actor: str, daily_grant_minutes: int | None = None
    ) -> tuple[Device, str]:
        """A new device and its token, which nobody can show again. With a budget it is a caregiver's.

        Raises:
            TooManyDevices, and what ``Pins.check`` raises.
        """
        await self._pins.check(account_id, pin)
        at_ms = self._clock()
        device = Device(
            id=str(uuid4()),
            name=name,
            created_at_ms=at_ms,
            expires_at_ms=at_ms + DEVICE_SECONDS * 1000,
            daily_grant_minutes=daily_grant_minutes,
        )
        await self._store.add(account_id, device, most=MAX_DEVICES, actor=actor)
        token = self._tokens.issue(
            account_id=account_id,
            role=Role.CAREGIVER if device.is_caregiver else Role.PARENT,
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
