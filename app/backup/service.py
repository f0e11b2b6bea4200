"""A backup: what Redis has not flushed, then the database, in one file; and the way back into empty servers.

Redis is read first. Whatever is flushed after that is in the snapshot of the database, which is taken later; whatever
is not, is in the file. Counters are absolute and carry versions, so what is in both is counted once. A restore writes
all of it into PostgreSQL and leaves Redis empty: the service recognises that, and takes every child up from there.
"""

import hashlib
import json
import os
import tarfile
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from app.backup.ports import Database, UnflushedSource, UsageStore
from app.clock import Clock
from app.domain.saved_table import SavedTable
from app.domain.unflushed import RowRefused, Unflushed

FORMAT = 1
_MANIFEST, _UNFLUSHED = "manifest.json", "unflushed"
_BATCH = 1000
_LENGTH_BYTES = 4
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Unflushed]).decode

Say = Callable[[str], None]


class BackupFailed(Exception):
    """A file is no sound backup, or the servers are not ready for one; the text says what to do."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup says about itself. ``digests`` are SHA-256 of its other members."""

    format: int
    version: str
    revision: str
    at_ms: int
    unflushed: int
    tables: list[SavedTable]
    digests: dict[str, str]


class Backup:
    """Saves one deployment."""

    def __init__(self, *, database: Database, counters: UnflushedSource, clock: Clock, version: str, say: Say) -> None:
        self._database = database
        self._counters = counters
        self._clock = clock
        self._version = version
        self._say = say

    async def write(self, file: Path) -> Manifest:
        """Save everything. The file appears when it is complete, readable for its owner alone.

        Raises:
            CountersUnavailable, DatabaseUnavailable: nothing was written.
            OSError: the file cannot be written.
        """
        with tempfile.TemporaryDirectory(prefix=".backup-", dir=file.parent) as name:
            folder = Path(name)
            at_ms = self._clock()
            unflushed = await self._save_counters(folder / _UNFLUSHED)
            self._say(f"{unflushed} unflushed entries of Redis")
            tables: list[SavedTable] = []
            async with self._database.snapshot() as snapshot:
                for table in await self._database.tables():
                    tables.append(await snapshot.save(table, folder / table))
                    self._say(f"{tables[-1].rows} rows of {table}")
                revision = snapshot.revision
            members = [_UNFLUSHED, *(table.name for table in tables)]
            manifest = Manifest(
                format=FORMAT,
                version=self._version,
                revision=revision,
                at_ms=at_ms,
                unflushed=unflushed,
                tables=tables,
                digests={member: _digest(folder / member) for member in members},
            )
            (folder / _MANIFEST).write_bytes(msgspec.json.encode(manifest))
            _pack(folder, [_MANIFEST, *members], file)
        return manifest

    async def _save_counters(self, into: Path) -> int:
        count = 0
        with into.open("wb") as out:
            async for entries in self._counters.everything():
                for part in _parts(entries):
                    body = _encode(part)
                    out.write(len(body).to_bytes(_LENGTH_BYTES) + body)
                count += len(entries)
        return count


class Restore:
    """Brings one deployment back.

    Args:
        migrate: brings the schema to a revision, or to the newest.
    """

    def __init__(
        self,
        *,
        database: Database,
        counters: UnflushedSource,
        usage_store: UsageStore,
        migrate: Callable[[str], Awaitable[None]],
        clock: Clock,
        say: Say,
    ) -> None:
        self._database = database
        self._counters = counters
        self._usage_store = usage_store
        self._migrate = migrate
        self._clock = clock
        self._say = say

    async def read(self, file: Path) -> Manifest:
        """Put a backup into empty servers. The file is checked whole before anything is written.

        Raises:
            BackupFailed: the file is damaged, or a server is not empty.
            CountersUnavailable, DatabaseUnavailable
        """
        if not await self._counters.is_empty():
            raise BackupFailed("Redis is not empty; a restore needs an empty server, and no service on it")
        if await self._database.rows():
            raise BackupFailed("PostgreSQL is not empty; a restore needs an empty database")
        with _unpacked(file) as folder:
            manifest = _checked(folder)
            await self._migrate(manifest.revision)
            await self._database.load([(table, folder / table.name) for table in manifest.tables])
            self._say(f"{sum(table.rows for table in manifest.tables)} rows in {len(manifest.tables)} tables")
            await self._migrate("head")
            parked = 0
            for entries in _read_counters(folder / _UNFLUSHED):
                parked += await self._write(entries)
            self._say(f"{manifest.unflushed} unflushed entries" + (f", {parked} of them parked" if parked else ""))
        return manifest

    async def _write(self, entries: Sequence[Unflushed]) -> int:
        """Write entries; those that can never be written are set aside, as the flush does it. How many were."""
        try:
            await self._usage_store.upsert([(entry.profile_id, entry.counters) for entry in entries])
        except RowRefused as error:
            if len(entries) == 1:
                await self._usage_store.dead_letter(entries[0], str(error), at_ms=self._clock())
                return 1
            middle = len(entries) // 2
            return await self._write(entries[:middle]) + await self._write(entries[middle:])
        return 0


def _parts(entries: Sequence[Unflushed]) -> Iterator[Sequence[Unflushed]]:
    for first in range(0, len(entries), _BATCH):
        yield entries[first : first + _BATCH]


def _read_counters(file: Path) -> Iterator[list[Unflushed]]:
    with file.open("rb") as source:
        while length := source.read(_LENGTH_BYTES):
            yield _decode(source.read(int.from_bytes(length)))


def _digest(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _pack(folder: Path, members: Sequence[str], file: Path) -> None:
    partial = folder / "partial"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
            for member in members:
                archive.add(folder / member, arcname=member, recursive=False)
        out.flush()
        os.fsync(out.fileno())
    partial.replace(file)


@contextmanager
def _unpacked(file: Path) -> Iterator[Path]:
    """The members of a backup in a folder that is gone after the block. Raises BackupFailed."""
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=file.parent) as folder:
        try:
            with tarfile.open(file, mode="r:gz") as archive:
                archive.extractall(folder, filter="data")
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise BackupFailed(f"{file} is no backup, or not all of one: {error}") from error
        yield Path(folder)


def _checked(folder: Path) -> Manifest:
    try:
        raw = (folder / _MANIFEST).read_bytes()
        if json.loads(raw).get("format") != FORMAT:
            raise BackupFailed("the backup is of a format that this version does not read")
        manifest = msgspec.json.decode(raw, type=Manifest)
        for member, digest in manifest.digests.items():
            if _digest(folder / member) != digest:
                raise BackupFailed(f"the backup is damaged: {member}")
    except (OSError, ValueError, AttributeError) as error:
        raise BackupFailed(f"the backup is not complete: {error}") from error
    return manifest
