"""Passwords and PINs: peppered, hashed by bcrypt, in a bounded pool of processes that gives way to heartbeats."""

import asyncio
import base64
import hashlib
import hmac
import threading
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Self, TypeVar

import bcrypt

from app.auth.hashing_processes import HashingProcesses
from app.errors import HashingInterrupted, TooManyRequests

Answer = TypeVar("Answer")
_NO_SALT = b"C6UzMDM.H6dfI/f/IKcEe."
_NO_HASH = b"." * 31


class Hasher:
    """Hashes and compares secrets.

    bcrypt reads 72 bytes at most, so it is given the HMAC of the secret under the pepper, in base64: 44 bytes. A
    copy of the database alone is therefore not enough to try PINs.

    Args:
        pepper: the server-side key.
        previous: earlier keys, whose hashes match, too. All are tried always: how long it takes tells nothing.
        cost: bcrypt work factor of new hashes.
        workers: processes that hash.
        queue: hashes that may wait for a process; one more is refused.
    """

    def __init__(self, *, pepper: bytes, cost: int, workers: int, queue: int, previous: Sequence[bytes] = ()) -> None:
        self._peppers = (pepper, *previous)
        self._cost = cost
        self._room = threading.BoundedSemaphore(workers + queue)
        self._processes = HashingProcesses(workers)
        self._nobody = f"$2b${cost:02}$".encode() + _NO_SALT + _NO_HASH

    async def hash(self, secret: str) -> str:
        """A hash to keep. Raises TooManyRequests when too many wait, HashingInterrupted."""
        peppered = _peppered(self._peppers[0], secret)
        with self.queue_slot() as slot:
            hashed = await slot.run(partial(bcrypt.hashpw, peppered, bcrypt.gensalt(self._cost)))
        return hashed.decode("ascii")

    def queue_slot(self) -> "QueueSlot":
        """A place in the queue, for a comparison that must not be refused once it was counted as a try.

        Raises:
            TooManyRequests: too many wait.
        """
        if not self._room.acquire(blocking=False):
            raise TooManyRequests
        return QueueSlot(self, self._processes, self._room)

    def comparison(self, secret: str, hashed: str | None) -> Callable[[], int | None]:
        """The work of finding out with which pepper a secret is the hashed one: 0 is today's, None is with none.

        None in place of a hash, for an unknown account, takes as long and is never right.
        """
        peppered = [_peppered(pepper, secret) for pepper in self._peppers]
        known = self._nobody if hashed is None else hashed.encode("ascii")
        return partial(_place_of_match, peppered, known)

    def close(self) -> None:
        self._processes.close()


def _peppered(pepper: bytes, secret: str) -> bytes:
    """Devices compose accents in different ways; NFKC makes the same password of them."""
    text = unicodedata.normalize("NFKC", secret).encode()
    return base64.b64encode(hmac.digest(pepper, text, hashlib.sha256))


def _place_of_match(peppered: Sequence[bytes], hashed: bytes) -> int | None:
    matches = [bcrypt.checkpw(each, hashed) for each in peppered]
    return matches.index(True) if True in matches else None


class QueueSlot:
    """A place in the queue of a hasher, given back at the end of the block or of the work."""

    def __init__(self, hasher: Hasher, processes: HashingProcesses, room: threading.BoundedSemaphore) -> None:
        self._hasher = hasher
        self._processes = processes
        self._room = room
        self._is_used = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_used:
            self._room.release()

    async def match(self, secret: str, hashed: str | None) -> int | None:
        """With which pepper it is, see ``Hasher.comparison``. Raises HashingInterrupted."""
        return await self.run(self._hasher.comparison(secret, hashed))

    async def run(self, work: Callable[[], Answer]) -> Answer:
        """Have a picklable function called in its turn. Raises HashingInterrupted."""
        future = self._processes.submit(work)
        self._is_used = True
        future.add_done_callback(lambda _: self._room.release())  # not before, even if the caller has gone away
        try:
            return await asyncio.wrap_future(future)
        except BrokenProcessPool as error:
            raise HashingInterrupted from error
