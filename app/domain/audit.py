"""An entry of the audit log."""

from typing import Any

import msgspec


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry: actor, action and ``detail`` (ids and numbers). ``profile_id`` is None if it concerns the account."""

    entry_id: int
    at_ms: int
    actor: str
    action: str
    profile_id: str | None
    detail: dict[str, Any]
