"""Tickets for event streams: a browser's ``EventSource`` can send no header, and no token belongs into an address."""

import secrets
from hashlib import blake2b

import msgspec

from app.auth.tokens import Principal
from app.clock import Clock
from app.errors import ProfileAccessDenied, Unauthenticated
from app.viewing.ports import TicketStore
from app.viewing.service import ViewingService

TICKET_SECONDS = 60
MAX_TICKET = 100
_LIFE_MS = TICKET_SECONDS * 1000
_CLOCKS_APART_MS = 5_000
"""Clocks of API hosts may differ so much."""


class _Ticket(msgspec.Struct, frozen=True, array_like=True):
    profile_id: str
    principal: Principal
    issued_ms: int
    asked_id: str = ""  # as the caller named the profile; a ticket of an older process has none


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Ticket).decode


class Tickets:
    """Issues and redeems tickets. A ticket opens one stream of one profile; only its digest is stored."""

    def __init__(self, store: TicketStore, *, service: ViewingService, clock: Clock) -> None:
        self._store = store
        self._service = service
        self._clock = clock

    async def issue(self, principal: Principal, profile_id: str) -> str:
        """A ticket for a stream of a profile.

        Raises:
            ProfileAccessDenied: not a profile of this account.
            CountersUnavailable: it cannot be kept.
        """
        our_id = await self._service.named(principal, profile_id)
        ticket = secrets.token_urlsafe(32)
        issued = _Ticket(our_id, principal, self._clock(), profile_id)
        await self._store.add(_digest(ticket), _pack(issued), life_ms=_LIFE_MS)
        return ticket

    async def redeem(self, ticket: str, profile_id: str) -> tuple[Principal, str]:
        """The caller to whom a ticket was issued, and our id of the profile. It cannot be redeemed again.

        Raises:
            Unauthenticated: it was never issued, was redeemed before, or is too old.
            ProfileAccessDenied: it is for another profile.
        """
        raw = await self._store.take(_digest(ticket))
        if raw is None:
            raise Unauthenticated
        found = _unpack(raw)
        age_ms = self._clock() - found.issued_ms
        if not -_CLOCKS_APART_MS <= age_ms <= _LIFE_MS + _CLOCKS_APART_MS:
            raise Unauthenticated  # the clock of Redis, which ends tickets, has stepped
        if profile_id not in {found.profile_id, found.asked_id}:
            raise ProfileAccessDenied
        return found.principal, found.profile_id


def _digest(ticket: str) -> str:
    return blake2b(ticket.encode(errors="replace"), digest_size=16).hexdigest()
