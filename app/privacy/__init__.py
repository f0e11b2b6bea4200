"""Retention, export and erasure of personal data. docs/reference/privacy.md lists that data."""

from dataclasses import dataclass

from app.clock import Clock
from app.privacy.erasure import Erasure
from app.privacy.export import Export
from app.privacy.ports import AuditLog


@dataclass(frozen=True, kw_only=True)
class Privacy:
    """Dependencies of the privacy calls."""

    clock: Clock
    erasure: Erasure
    export: Export
    audit: AuditLog
