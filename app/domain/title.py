"""What can be watched."""

import msgspec


class Title(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    is_educational: bool
    duration_seconds: int | None = None


class UploadCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an upload; ``received`` is the sum of the others."""

    received: int
    created: int
    updated: int
    unchanged: int
