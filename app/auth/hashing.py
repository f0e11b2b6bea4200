"""Passwords and PINs: peppered, and hashed by bcrypt in a process that gives way to heartbeats."""

import asyncio
import base64
import hashlib
import hmac
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bcrypt

from app.auth.hashing_process import HashingProcess
from app.auth.hashing_queue import HashingKind, HashingQueue
from app.errors import HashingInterrupted, TooManyRequests

MAX_WAIT_SECONDS = 30.0
"""A secret that would wait for longer is refused. One that does, because hashing became slower, is dropped."""
_NEWEST_SHARE = 0.2
"""Of the newest duration in the mean of the last ones."""
IDLE_SECONDS = 60.0
"""After that the process ends, and its memory is free. It starts in a tenth of a second."""
_NO_SALT = b"C6UzMDM.H6dfI/f/IKcEe."
_NO_HASH = b"." * 31


@dataclass(frozen=True, eq=False)
class _Work:
    request: bytes
    answer: asyncio.Future[bytes]


class Hasher:
    """Hashes and compares secrets, in fair turns (`hashing_queue`).

    bcrypt reads 72 bytes at most, so it is given the HMAC of the secret under the pepper, in base64: 44 bytes. A
    copy of the database alone is therefore not enough to try PINs.

    Args:
        pepper: the server-side key.
        previous: earlier keys, whose hashes match, too. All are tried always: how long it takes tells nothing.
        cost: bcrypt work factor of new hashes.
        queue: hashes that may wait; one more is refused.
        lock_file: shared by the hashers of a machine, see `hashing_program`.
        at_once: how many of them may compute at a time.
    """

    def __init__(
        self,
        *,
        pepper: bytes,
        cost: int,
        queue: int,
        previous: Sequence[bytes] = (),
        lock_file: Path | None = None,
        at_once: int = 1,
    ) -> None:
        self._peppers = (pepper, *previous)
        self._cost = cost
        self._queue: HashingQueue[_Work] = HashingQueue(queue + 1)
        self._process = HashingProcess(lock_file=lock_file, at_once=at_once)
        self._working: asyncio.Task[None] | None = None
        self._mean_seconds = 0.0
        self._idle: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None
        self._nobody = f"$2b${cost:02}$".encode() + _NO_SALT + _NO_HASH

    async def hash(self, secret: str, kind: HashingKind, account_id: str) -> str:
        """A hash to keep. Raises TooManyRequests when too many wait, HashingInterrupted."""
        with self.queue_slot(kind, account_id):
            secrets = [_peppered(self._peppers[0], secret)]
            [made] = await self._run(bcrypt.gensalt(self._cost), secrets, kind, account_id)
        return made.decode()

    @contextmanager
    def queue_slot(self, kind: HashingKind, account_id: str) -> Iterator["QueueSlot"]:
        """A place in the queue, for a comparison that must not be refused once it was counted as a try.

        Raises:
            TooManyRequests: too many wait, or for too long.
        """
        if self._queue.taken * self._mean_seconds > MAX_WAIT_SECONDS:
            raise TooManyRequests
        self._queue.take_place(kind, account_id)
        try:
            yield QueueSlot(self, kind, account_id)
        finally:
            self._queue.give_back(kind, account_id)

    async def match(self, secret: str, hashed: str | None, kind: HashingKind, account_id: str) -> int | None:
        """As ``QueueSlot.match``, which calls it: only who has a place in the queue may compare."""
        known = self._nobody if hashed is None else hashed.encode("ascii")
        made = await self._run(known, [_peppered(pepper, secret) for pepper in self._peppers], kind, account_id)
        matches = [hmac.compare_digest(each, known) for each in made]
        return matches.index(True) if True in matches else None

    async def _run(self, salt: bytes, secrets: Sequence[bytes], kind: HashingKind, account_id: str) -> list[bytes]:
        """The hashes of secrets, in their turn. Raises HashingInterrupted."""
        work = _Work(b" ".join((salt, *secrets)) + b"\n", asyncio.get_running_loop().create_future())
        self._queue.put(kind, account_id, work)
        if self._working is None:
            self._working = asyncio.create_task(self._work(), name="hash secrets")
        try:
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                hashes = (await work.answer).split()
        except TimeoutError as error:
            raise HashingInterrupted from error
        finally:
            self._queue.remove(kind, account_id, work)
        if len(hashes) != len(secrets):
            raise ValueError("not a hash of bcrypt")
        return hashes

    async def close(self) -> None:
        """End what is being hashed. The callers get HashingInterrupted."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])
        self._stay_awake()
        await self._process.close()

    async def _work(self) -> None:
        self._stay_awake()
        work: _Work | None = None
        try:
            while (work := self._queue.next()) is not None:
                began = time.monotonic()
                try:
                    answer = await self._process.ask(work.request)
                except HashingInterrupted as error:
                    _settle(work.answer, error)
                else:
                    _settle(work.answer, answer)
                    self._mean_seconds += _NEWEST_SHARE * (time.monotonic() - began - self._mean_seconds)
        finally:
            self._working = None
            while work is not None:  # cancelled, or a defect: nobody waits for an answer that cannot come
                _settle(work.answer, HashingInterrupted())
                work = self._queue.next()
            self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._rest)

    def _rest(self) -> None:
        async def rest() -> None:
            if self._working is None:
                self._mean_seconds = 0.0
                await self._process.close()

        self._ending = asyncio.create_task(rest(), name="end the idle hashing process")

    def _stay_awake(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None


def _settle(waiting: asyncio.Future[bytes], result: bytes | HashingInterrupted) -> None:
    if waiting.done():  # the caller has gone away
        return
    if isinstance(result, bytes):
        waiting.set_result(result)
    else:
        waiting.set_exception(result)


def _peppered(pepper: bytes, secret: str) -> bytes:
    """Devices compose accents in different ways; NFKC makes the same password of them."""
    text = unicodedata.normalize("NFKC", secret).encode()
    return base64.b64encode(hmac.digest(pepper, text, hashlib.sha256))


@dataclass(frozen=True)
class QueueSlot:
    """A place in the queue of a hasher."""

    hasher: Hasher
    kind: HashingKind
    account_id: str

    async def match(self, secret: str, hashed: str | None) -> int | None:
        """With which pepper a secret is the hashed one: 0 is today's, None is with none. Raises HashingInterrupted.

        None in place of a hash, for an unknown account, takes as long and is never right.
        """
        return await self.hasher.match(secret, hashed, self.kind, self.account_id)
