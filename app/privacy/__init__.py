"""Retention, export and erasure of what concerns a child. docs/privacy.md lists what that is."""

from dataclasses import dataclass

from app.clock import Clock
from app.privacy.erasure import Erasure
from app.privacy.export import Export


@dataclass(frozen=True, kw_only=True)
class Privacy:
    """What the calls of this feature work with."""

    clock: Clock
    erasure: Erasure
    export: Export
