"""What an erasure removes, and what it leaves: a receipt."""

from collections.abc import Mapping

import msgspec


class ErasureReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """Proof of an erasure without personal data: how many rows of each kind are gone."""

    erased_at_ms: int
    counts: Mapping[str, int]


class Erased(msgspec.Struct, frozen=True):
    """The ids of profiles and accounts that were erased."""

    profile_ids: tuple[str, ...] = ()
    account_ids: tuple[str, ...] = ()
