"""Sign-ins of a household, each a family of refresh tokens that follow one another.

A refresh token is used once and replaced by its successor. One that comes again was copied: the whole sign-in ends. An
answer may be lost on its way, though. So the token used last may come again within a few seconds; it gets the same
successor as before, not another one, and nobody gains a token by it.
"""

from enum import Enum
from typing import Self

import msgspec

RETRY_MS = 10_000
"""How long after a rotation the token before it may come again."""
MAX_SIGN_INS = 100
"""Sign-ins of one account. One more ends the one that was refreshed longest ago."""


class Rotation(Enum):
    """What the use of a refresh token means."""

    ROTATED = "rotated"
    REPEATED = "repeated"
    REUSED = "reused"
    REFUSED = "refused"


class SignIn(msgspec.Struct, frozen=True, kw_only=True):
    """A sign-in as the database keeps it.

    Attributes:
        device_name: what the client called its device; None where it did not.
        refreshed_at_ms: when its tokens were issued last.
        expires_at_ms: when the newest refresh token expires.
        serial: the number of the newest refresh token.
        ended_at_ms: when it was ended; None while it goes on.
    """

    id: str
    account_id: str
    device_name: str | None = None
    created_at_ms: int
    refreshed_at_ms: int
    expires_at_ms: int
    serial: int = 0
    ended_at_ms: int | None = None

    def use(self, serial: int, *, at_ms: int, expires_at_ms: int) -> tuple[Self, Rotation]:
        """The sign-in after a refresh token with this number was used, and what that means."""
        if self.ended_at_ms is not None or at_ms >= self.expires_at_ms or serial > self.serial:
            return self, Rotation.REFUSED
        if serial == self.serial:
            rotated = msgspec.structs.replace(
                self, serial=serial + 1, refreshed_at_ms=at_ms, expires_at_ms=expires_at_ms
            )
            return rotated, Rotation.ROTATED
        # After a clock step nobody knows how long ago the rotation was; only a short distance is a retry.
        if serial == self.serial - 1 and abs(at_ms - self.refreshed_at_ms) <= RETRY_MS:
            return self, Rotation.REPEATED
        return msgspec.structs.replace(self, ended_at_ms=at_ms), Rotation.REUSED
