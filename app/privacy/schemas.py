"""What the privacy calls take and answer."""

from datetime import datetime
from typing import Self

from pydantic import BaseModel

from app.auth.schemas import Password
from app.domain.erasure import ErasureReceipt
from app.instants import utc
from app.requests import RequestModel


class AccountErasure(RequestModel):
    """The account's password, beside parent rights: this cannot be undone."""

    password: Password


class Receipt(BaseModel):
    """How many rows of each kind were removed. It names nobody."""

    erased_at: datetime
    counts: dict[str, int]

    @classmethod
    def of(cls, receipt: ErasureReceipt) -> Self:
        return cls(erased_at=utc(receipt.erased_at_ms), counts=dict(receipt.counts))
