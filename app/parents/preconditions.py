"""Conditional requests (RFC 9110, 13.1).

A change is made only to the version that the parent has seen; an answer that the client has is not sent again.
"""

import re
from collections.abc import Sequence

from app.errors import PreconditionFailed, PreconditionRequired

_PENDING = "-pending"
_ENTITY_TAG = re.compile(r'(W/)?"([^"]*)"')


def etag_of(version: int, *, is_pending: bool = False) -> str:
    """The tag of a version. While a part of it is yet to act its answer is another one than afterwards."""
    return f'"{version}{_PENDING}"' if is_pending else f'"{version}"'


def is_not_modified(if_none_match: Sequence[str], etag: str) -> bool:
    """Whether the client has exactly this answer (RFC 9110, 13.1.2)."""
    field = ",".join(if_none_match).strip()
    return field == "*" or etag.strip('"') in {tag for _, tag in _ENTITY_TAG.findall(field)}


class Precondition:
    """The If-Match fields of a request. ``*`` stands for any version; weak tags match none, as the RFC wants it.

    Raises:
        PreconditionRequired: there is no such field.
    """

    def __init__(self, if_match: Sequence[str]) -> None:
        field = ",".join(if_match).strip()
        if not field:
            raise PreconditionRequired
        self._is_any = field == "*"
        self._tags = {tag.removesuffix(_PENDING) for weak, tag in _ENTITY_TAG.findall(field) if not weak}

    def check(self, version: int) -> None:
        """See that a version is among those named.

        Raises:
            PreconditionFailed: it is not.
        """
        if not self._is_any and str(version) not in self._tags:
            raise PreconditionFailed
