"""Export all data of a profile or an account as one JSON document, streamed in pieces."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from app.clock import Clock
from app.privacy.ports import CounterReader, ExportSource, Row
from app.timestamps import ms_of, rfc3339

_encode = msgspec.json.encode


class Export:
    def __init__(self, source: ExportSource, *, counters: CounterReader, clock: Clock) -> None:
        self._source = source
        self._counters = counters
        self._clock = clock

    async def of_profile(self, account_id: str, profile_id: str) -> AsyncIterator[bytes]:
        """Yield the document in pieces. All refusals come before the first piece.

        Raises:
            ProfileAccessDenied: the account has no such profile.
            CountersUnavailable, DatabaseUnavailable: the export would be incomplete.
        """
        head = {"exported_at": rfc3339(self._clock()), **await self._profile_head(account_id, profile_id)}
        return self._profile(head, account_id, profile_id)

    async def of_account(self, account_id: str) -> AsyncIterator[bytes]:
        """Like ``of_profile``, for the account and all its profiles.

        Raises:
            Unauthenticated: the account does not exist.
            CountersUnavailable, DatabaseUnavailable: the export would be incomplete.
        """
        head = {"exported_at": rfc3339(self._clock()), "account": _formatted(await self._source.account(account_id))}
        profiles = [
            (profile_id, await self._profile_head(account_id, profile_id))
            for profile_id in await self._source.profile_ids(account_id)
        ]
        return self._account(head, account_id, profiles)

    async def _profile_head(self, account_id: str, profile_id: str) -> dict[str, object]:
        profile = await self._source.profile(account_id, profile_id)
        stored = await self._counters.counters(profile_id)
        return {"profile": _formatted(profile), "counters": [msgspec.structs.asdict(counters) for counters in stored]}

    async def _account(self, head: Row, account_id: str, profiles: Sequence[tuple[str, Row]]) -> AsyncIterator[bytes]:
        yield _encode(head)[:-1]
        for kind in self._source.account_kinds:
            async for piece in _member(kind, self._source.account_pages(kind, account_id)):
                yield piece
        yield b',"profiles":['
        separator = b""
        for profile_id, profile_head in profiles:
            yield separator
            separator = b","
            async for piece in self._profile(profile_head, account_id, profile_id):
                yield piece
        yield b"]}"

    async def _profile(self, head: Row, account_id: str, profile_id: str) -> AsyncIterator[bytes]:
        yield _encode(head)[:-1]
        for kind in self._source.kinds:
            async for piece in _member(kind, self._source.pages(kind, account_id, profile_id)):
                yield piece
        yield b"}"


async def _member(name: str, pages: AsyncIterator[Sequence[Row]]) -> AsyncIterator[bytes]:
    """One more member of a JSON object: its name, and rows as an array."""
    yield b"," + _encode(name) + b":["
    separator = b""
    async for page in pages:
        yield separator + b",".join(_encode(_formatted(row)) for row in page)
        separator = b","
    yield b"]"


def _formatted(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its instants formatted as in all answers."""
    return {name: rfc3339(ms_of(value)) if isinstance(value, datetime) else value for name, value in row.items()}
