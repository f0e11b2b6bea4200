"""The process that hashes for an API process. It runs `hashing_program`."""

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import structlog

from app.auth import hashing_program
from app.errors import HashingInterrupted
from app.settings.settings import environment

MAX_SECONDS = 25.0
"""Longer than waiting for a turn and a computation under full load; after that the process is replaced."""
_STREAM_BYTES = 4096

log = structlog.get_logger(__name__)


class HashingProcess:
    """Started when it is needed, and again after it ended or did not answer.

    Args:
        lock_file: shared by the API processes of a machine, see `hashing_program`; None waits for nobody.
        at_once: how many of them may compute at a time.
    """

    def __init__(self, *, lock_file: Path | None, at_once: int) -> None:
        self._arguments = [str(at_once), *([] if lock_file is None else [str(lock_file)])]
        self._process: subprocess.Popen[bytes] | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> bytes:
        """Send one line and return the line of the answer. One call at a time.

        Raises:
            HashingInterrupted: the process ended, cannot be started, or did not answer in time.
        """
        answer, reason = b"", "ended"
        try:
            async with asyncio.timeout(MAX_SECONDS):
                if self._process is not None and self._process.poll() is not None:  # it ended while it was idle
                    await self.close()
                reader, writer = self._streams or await self._start()
                writer.write(request)
                answer = await reader.readline()
        except TimeoutError:
            reason = "no answer"
        except OSError as error:
            reason = type(error).__name__
        finally:
            is_answered = answer.endswith(b"\n")
            if not is_answered:
                await self.close()
        if not is_answered:
            log.warning("hashing_process_lost", reason=reason)
            raise HashingInterrupted
        return answer

    async def close(self) -> None:
        """End the process, if it runs."""
        process, streams = self._process, self._streams
        self._process = self._streams = None
        if streams is not None:
            streams[1].transport.abort()
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)  # it may have to wait for a processor

    async def _start(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ours, theirs = socket.socketpair()
        try:
            # subprocess starts it without a copy of the tables of this large process, as asyncio would make one.
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603  ourselves; it takes a millisecond
                [sys.executable, "-P", hashing_program.__file__, *self._arguments],
                env=_environment(),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._streams = await asyncio.open_unix_connection(sock=ours, limit=_STREAM_BYTES)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return self._streams


def _environment() -> dict[str, str]:
    """What Python needs to start, and no secret."""
    return {name: value for name, value in environment().items() if name.startswith(("PYTHON", "PATH", "LD_"))}
