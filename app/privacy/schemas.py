"""Requests and responses of the privacy calls."""

from typing import Any, Self

from pydantic import BaseModel

from app.auth.schemas import Password
from app.domain.audit import AuditEntry
from app.domain.erasure import ErasureReceipt
from app.http.requests import Instant, RequestModel
from app.timestamps import utc


class AccountErasure(RequestModel):
    """The account's password, required together with parent rights, because an erasure cannot be undone.

    Who signs in at the platform's identity service sends no password, and a token of a sign-in of the last 5 minutes.
    """

    password: Password | None = None


class AuditEntryAnswer(BaseModel):
    """Actor, action and profile of an entry. The profile is null for actions on the account."""

    at: Instant
    actor: str
    action: str
    profile_id: str | None
    detail: dict[str, Any]

    @classmethod
    def of(cls, entry: AuditEntry) -> Self:
        return cls(
            at=utc(entry.at_ms),
            actor=entry.actor,
            action=entry.action,
            profile_id=entry.profile_id,
            detail=entry.detail,
        )


class AuditPage(BaseModel):
    """Entries, newest first. ``next_cursor`` is null on the last page."""

    entries: list[AuditEntryAnswer]
    next_cursor: str | None


class Receipt(BaseModel):
    """The number of removed rows of each kind, without personal data."""

    erased_at: Instant
    counts: dict[str, int]

    @classmethod
    def of(cls, receipt: ErasureReceipt) -> Self:
        return cls(erased_at=utc(receipt.erased_at_ms), counts=dict(receipt.counts))
