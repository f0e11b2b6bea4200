"""Everything that is kept about a profile, as one JSON document that never lies in memory as a whole."""

from collections.abc import AsyncIterator

import msgspec

from app.clock import Clock
from app.instants import rfc3339
from app.privacy.ports import Counters, ExportSource

_encode = msgspec.json.encode


class Export:
    def __init__(self, source: ExportSource, *, counters: Counters, clock: Clock) -> None:
        self._source = source
        self._counters = counters
        self._clock = clock

    async def of_profile(self, account_id: str, profile_id: str) -> AsyncIterator[bytes]:
        """The document in pieces. What can be refused is refused before the first.

        Raises:
            ProfileAccessDenied: the account has no such profile.
            CountersUnavailable, DatabaseUnavailable: it would not be complete.
        """
        profile = await self._source.profile(account_id, profile_id)
        counters = await self._counters.counters(profile_id)
        head = {
            "exported_at": rfc3339(self._clock()),
            "profile": profile,
            "counters": [msgspec.structs.asdict(live) for live in counters],
        }
        return self._pieces(_encode(head), account_id, profile_id)

    async def _pieces(self, head: bytes, account_id: str, profile_id: str) -> AsyncIterator[bytes]:
        yield head[:-1]
        for kind in self._source.kinds:
            yield b"," + _encode(kind) + b":["
            separator = b""
            async for page in self._source.pages(kind, account_id, profile_id):
                yield separator + b",".join(map(_encode, page))
                separator = b","
            yield b"]"
        yield b"}"
