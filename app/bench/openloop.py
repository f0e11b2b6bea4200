"""Requests at a fixed rate, in a process of its own: each on its due time, however long the others take.

A generator that waits for answers before it sends again asks less of a slow server, and so does not see what its
players would see. Here a request that cannot leave in time, because the generator or all its connections are late, has
its wait counted: latency runs from the instant at which it was due.
"""

import argparse
import asyncio
import json
import math
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from app.bench.client import Connection
from app.bench.crew import Crew
from app.bench.failures import BenchFailed
from app.bench.viewers import Viewers

GRACE_SECONDS = 2.0
AWAKE_SECONDS = 0.002
AT_LEISURE_SECONDS = 0.01
OK = 200
LONGEST_SHOWN = 200
MOST_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Slots:
    """Requests one after another in a file, those in turn that the span names."""

    file: Path
    slot: int
    length: int
    span: range


def probe(
    crew: Crew, viewers: Viewers, span: range, *, per_second: float, seconds: float, connections: int
) -> dict[str, Any]:
    """Run a generator beside whatever else goes on, and wait for it.

    The viewers of the span send their requests in turn, as they stand.

    Returns:
        ``requests``, ``per_second``, ``errors``, ``error_kinds``, ``p50_ms``, ``p95_ms``, ``p99_ms``, ``p999_ms``,
        ``max_ms``.

    Raises:
        BenchFailed: it did not run.
    """
    slots = Slots(file=viewers.requests, slot=viewers.layout.slot, length=viewers.layout.length, span=span)
    return _probe(crew, slots, per_second=per_second, seconds=seconds, connections=connections)


def probe_requests(
    crew: Crew, file: Path, requests: Sequence[bytes], *, per_second: float, seconds: float, connections: int
) -> dict[str, Any]:
    """The same with requests of any kind that are of one length; they are written into a file."""
    file.write_bytes(b"".join(requests))
    length = len(requests[0])
    slots = Slots(file=file, slot=length, length=length, span=range(len(requests)))
    return _probe(crew, slots, per_second=per_second, seconds=seconds, connections=connections)


def _probe(crew: Crew, slots: Slots, *, per_second: float, seconds: float, connections: int) -> dict[str, Any]:
    numbers = {
        "slot": slots.slot,
        "length": slots.length,
        "first": slots.span.start,
        "count": len(slots.span),
        "rate": per_second,
        "seconds": seconds,
        "connections": connections,
    }
    options = [f"--{name}={value}" for name, value in numbers.items()]
    command = [sys.executable, "-P", "-m", __name__, f"--requests={slots.file}", f"--url={crew.url}", *options]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603  ourselves
    if ended.returncode != 0:
        raise BenchFailed(f"the open-loop generator failed: {ended.stderr.strip()}")
    figures: dict[str, Any] = json.loads(ended.stdout)
    return figures


class Generator:
    """One run. Instants are on the monotonic clock: that of uvloop's loop knows whole milliseconds only."""

    def __init__(self, requests: Sequence[bytes], *, per_second: float, seconds: float) -> None:
        self._requests = requests
        self._interval = 1 / per_second
        self._total = round(per_second * seconds)
        self._idle: deque[Connection] = deque()
        self._late: deque[int] = deque()
        self._began = 0.0
        self._done = asyncio.Event()
        self.latencies: list[float] = []
        self.errors: Counter[str] = Counter()

    async def run(self, url: str, connections: int) -> None:
        for _ in range(connections):
            self._idle.append(await Connection.opened(url))
        self._began = time.monotonic()
        for number in range(self._total):
            await self._until(self._due(number))
            if self._idle:
                self._send(number, self._idle.popleft())
            else:
                self._late.append(number)
        if len(self.latencies) < self._total:
            try:
                async with asyncio.timeout(GRACE_SECONDS):
                    await self._done.wait()
            except TimeoutError:
                self._give_up(time.monotonic())

    async def _until(self, due: float) -> None:
        """Timers fire up to a millisecond late: where few requests leave time for it, the last bit is waited awake."""
        awake = AWAKE_SECONDS if self._interval >= AT_LEISURE_SECONDS else 0.0
        wait = due - time.monotonic() - awake
        if wait > 0:
            await asyncio.sleep(wait)
        while time.monotonic() < due:  # noqa: ASYNC110  it waits for an instant, not for an event
            await asyncio.sleep(0)

    def _due(self, number: int) -> float:
        return self._began + number * self._interval

    def _send(self, number: int, connection: Connection) -> None:
        answered = connection.send(self._requests[number % len(self._requests)])
        answered.add_done_callback(lambda answer: self._answered(number, connection, *answer.result()))

    def _answered(self, number: int, connection: Connection, status: int, answer: bytes) -> None:
        self.latencies.append(time.monotonic() - self._due(number))
        if status != OK:
            self.errors[f"{status} {answer[:LONGEST_SHOWN].decode(errors='replace')}"] += 1
        if len(self.latencies) == self._total:
            self._done.set()
        elif self._late:
            self._send(self._late.popleft(), connection)
        else:
            self._idle.append(connection)

    def _give_up(self, now: float) -> None:
        """Whoever has no answer yet waited at least so long."""
        missing = self._total - len(self.latencies)
        self.errors["no answer"] += missing
        self.latencies += [max(GRACE_SECONDS, now - self._due(self._total))] * missing


def centile_ms(latencies: Sequence[float], share: float) -> float:
    """The latency that so large a share of requests did not exceed; latencies in seconds, sorted."""
    return round(1000 * latencies[min(len(latencies) - 1, math.ceil(share * len(latencies)) - 1)], 3)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=Path)
    parser.add_argument("--url")
    for name in ("slot", "length", "first", "count", "connections"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("rate", "seconds"):
        parser.add_argument(f"--{name}", type=float)
    given = parser.parse_args()
    requests = []
    with given.requests.open("rb") as file:
        for viewer in range(given.first, given.first + given.count):
            file.seek(viewer * given.slot)
            requests.append(file.read(given.length))
    generator = Generator(requests, per_second=given.rate, seconds=given.seconds)
    began = time.monotonic()
    uvloop.run(generator.run(given.url, given.connections))
    latencies = sorted(generator.latencies)
    figures = {
        "requests": len(latencies),
        "per_second": round(len(latencies) / (time.monotonic() - began), 1),
        "errors": generator.errors.total(),
        "error_kinds": dict(generator.errors.most_common(MOST_SHOWN)),
        "p50_ms": centile_ms(latencies, 0.5),
        "p95_ms": centile_ms(latencies, 0.95),
        "p99_ms": centile_ms(latencies, 0.99),
        "p999_ms": centile_ms(latencies, 0.999),
        "max_ms": centile_ms(latencies, 1.0),
    }
    print(json.dumps(figures))  # noqa: T201  the answer to whoever started this process


if __name__ == "__main__":
    main()
