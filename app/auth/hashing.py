"""Passwords and PINs: peppered, hashed by bcrypt, in a bounded pool of threads that gives way to heartbeats."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import os
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

import bcrypt

from app.errors import TooManyRequests

Answer = TypeVar("Answer")
_NICENESS = 5  # under full load a hash then takes seconds, not tens of them
_NO_SALT = b"C6UzMDM.H6dfI/f/IKcEe."
_NO_HASH = b"." * 31


class Hasher:
    """Hashes and compares secrets.

    bcrypt reads 72 bytes at most, so it is given the HMAC of the secret under the pepper, in base64: 44 bytes. Whoever
    has only the database can therefore not even try PINs.

    Args:
        pepper: the server-side key.
        cost: bcrypt work factor of new hashes.
        workers: threads that hash.
        queue: hashes that may wait for a thread; one more is refused.
    """

    def __init__(self, *, pepper: bytes, cost: int, workers: int, queue: int) -> None:
        self._pepper = pepper
        self._cost = cost
        self._room = threading.BoundedSemaphore(workers + queue)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="bcrypt", initializer=_give_way)
        self._nobody = f"$2b${cost:02}$".encode() + _NO_SALT + _NO_HASH

    async def hash(self, secret: str) -> str:
        """A hash to keep. Raises TooManyRequests when too many wait."""
        peppered = self._peppered(secret)
        with self.place() as place:
            hashed = await place.run(lambda: bcrypt.hashpw(peppered, bcrypt.gensalt(self._cost)))
        return hashed.decode("ascii")

    def place(self) -> "Place":
        """A place in the queue, for a comparison that must not be refused once it was counted as a try.

        Raises:
            TooManyRequests: too many wait.
        """
        if not self._room.acquire(blocking=False):
            raise TooManyRequests
        return Place(self, self._pool, self._room)

    def comparison(self, secret: str, hashed: str | None) -> Callable[[], bool]:
        """The work of finding out whether a secret is the hashed one.

        None, for an unknown account, takes as long and is never right.
        """
        peppered = self._peppered(secret)
        known = self._nobody if hashed is None else hashed.encode("ascii")
        return lambda: bcrypt.checkpw(peppered, known)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _peppered(self, secret: str) -> bytes:
        """Devices compose accents in different ways; NFKC makes the same password of them."""
        text = unicodedata.normalize("NFKC", secret).encode()
        return base64.b64encode(hmac.digest(self._pepper, text, hashlib.sha256))


class Place:
    """A place in the queue of a hasher, given back at the end of the block or of the work."""

    def __init__(self, hasher: Hasher, pool: ThreadPoolExecutor, room: threading.BoundedSemaphore) -> None:
        self._hasher = hasher
        self._pool = pool
        self._room = room
        self._is_used = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_used:
            self._room.release()

    async def matches(self, secret: str, hashed: str | None) -> bool:
        """Whether a secret is the hashed one; see ``Hasher.comparison``."""
        return await self.run(self._hasher.comparison(secret, hashed))

    async def run(self, work: Callable[[], Answer]) -> Answer:
        self._is_used = True
        future = self._pool.submit(work)
        future.add_done_callback(lambda _: self._room.release())  # not before, even if the caller has gone away
        return await asyncio.wrap_future(future)


def _give_way() -> None:
    """Lower this thread's priority below that of the process, where a thread has one of its own."""
    with contextlib.suppress(AttributeError, OSError):
        inherited = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), inherited + _NICENESS)  # the kernel ends at 19
