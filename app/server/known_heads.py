"""Heads of heartbeats that the parser has accepted, so that an equal one need not be parsed again.

Players of one make send the same head again and again, and only the token differs. A read that holds exactly one
request is looked up here first, by its head without the token. Whatever is not known byte for byte goes to the parser,
which alone decides what a request is.
"""

import re
from typing import NamedTuple

_BEARER = re.compile(rb"\r\n[Aa]uthorization: (Bearer [0-9A-Za-z._~+/=-]+)\r\n")
_FIELD = re.compile(rb"\n[ \t]*authorization[ \t]*:", re.IGNORECASE)
"""Of several such fields the parser takes the first one, in whatever case it is written: such a head is not kept."""
_END = b"\r\n\r\n"
_MAX_HEAD_BYTES = 2_048


class ReadRequest(NamedTuple):
    """A request that was read whole: the value of ``Authorization``, and the body."""

    authorization: bytes
    body: bytes


class KnownHeads:
    """Heads without their tokens, and the length of the body that each announces.

    Args:
        size: most heads kept. The oldest one leaves first; a head in use is learned again at once.
    """

    def __init__(self, size: int = 4_096) -> None:
        self._size = size
        self.body_bytes_of: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self.body_bytes_of)

    def find(self, data: bytes) -> ReadRequest | None:
        """The request in a read that begins with a known head and ends with its body; None for any other read."""
        bearer = _BEARER.search(data)
        if bearer is None:
            return None
        starts, ends = bearer.span(1)
        body_starts = data.find(_END, ends) + len(_END)
        body_bytes = self.body_bytes_of.get(data[:starts] + data[ends:body_starts])
        if body_bytes != len(data) - body_starts:
            return None
        return ReadRequest(data[starts:ends], data[body_starts:])

    def learn(self, data: bytes, authorization: bytes | None, body: bytes) -> None:
        """Keep the head of a read in which the parser has found one whole request with this token and this body."""
        bearer = _BEARER.search(data)
        body_starts = data.find(_END) + len(_END)
        if (
            bearer is None
            or bearer[1] != authorization
            or bearer.end() > body_starts
            or body_starts > _MAX_HEAD_BYTES
            or data[body_starts:] != body
            or len(_FIELD.findall(data, 0, body_starts)) != 1
        ):
            return
        while len(self.body_bytes_of) >= self._size:
            del self.body_bytes_of[next(iter(self.body_bytes_of))]
        starts, ends = bearer.span(1)
        self.body_bytes_of[data[:starts] + data[ends:body_starts]] = len(body)
