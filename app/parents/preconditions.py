"""If-Match (RFC 9110, 13.1.1): a change is made only to the version that the parent has seen."""

import re
from collections.abc import Sequence

from app.errors import PreconditionFailed, PreconditionRequired

_ENTITY_TAG = re.compile(r'(W/)?"([^"]*)"')


def etag_of(version: int) -> str:
    return f'"{version}"'


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
        self._tags = {tag for weak, tag in _ENTITY_TAG.findall(field) if not weak}

    def check(self, version: int) -> None:
        """See that a version is among those named.

        Raises:
            PreconditionFailed: it is not.
        """
        if not self._is_any and str(version) not in self._tags:
            raise PreconditionFailed
