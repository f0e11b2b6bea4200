"""Send requests at a fixed rate from a separate process, each at its due time.

A closed-loop generator waits for answers and sends less to a slow server, so it hides the waiting of real players. Here
latency runs from the due time. It includes the wait of a request that is late because of the generator or busy
connections.
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

from app.lab.bench.client import LoadConnection
from app.lab.bench.failures import BenchFailed
from app.lab.bench.service_processes import ServiceProcesses
from app.lab.bench.viewers import Viewers

GRACE_SECONDS = 2.0
AWAKE_SECONDS = 0.002
AT_LEISURE_SECONDS = 0.01
OK = 200
MAX_SHOWN = 200
MAX_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Slots:
    """Requests stored one after another in a file. The span selects those to send, in turn."""

    file: Path
    slot: int
    length: int
    span: range


def probe(
    crew: ServiceProcesses, viewers: Viewers, span: range, *, per_second: float, seconds: float, connections: int
) -> dict[str, Any]:
    """Run a generator in a separate process and wait for it.

    The viewers of the span send their stored requests in turn.

    Returns:
        ``requests``, ``per_second``, ``errors``, ``error_kinds``, ``p50_ms``, ``p95_ms``, ``p99_ms``, ``p999_ms``,
        ``max_ms``.

    Raises:
        BenchFailed: the generator failed.
    """
    slots = Slots(file=viewers.requests, slot=viewers.layout.slot, length=viewers.layout.length, span=span)
    return _probe(crew, slots, per_second=per_second, seconds=seconds, connections=connections)


def probe_requests(
    crew: ServiceProcesses,
    file: Path,
    requests: Sequence[bytes],
    *,
    per_second: float,
    seconds: float,
    connections: int,
) -> dict[str, Any]:
    """The same with other requests of equal length, which are written to a file first."""
    file.write_bytes(b"".join(requests))
    length = len(requests[0])
    slots = Slots(file=file, slot=length, length=length, span=range(len(requests)))
    return _probe(crew, slots, per_second=per_second, seconds=seconds, connections=connections)


def _probe(
    crew: ServiceProcesses, slots: Slots, *, per_second: float, seconds: float, connections: int
) -> dict[str, Any]:
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
    """One run. Instants are on the monotonic clock, because the clock of uvloop's loop has a resolution of 1 ms."""

    def __init__(self, requests: Sequence[bytes], *, per_second: float, seconds: float) -> None:
        self._requests = requests
        self._interval = 1 / per_second
        self._total = round(per_second * seconds)
        self._idle: deque[LoadConnection] = deque()
        self._late: deque[int] = deque()
        self._began = 0.0
        self._done = asyncio.Event()
        self.latencies: list[float] = []
        self.errors: Counter[str] = Counter()

    async def run(self, url: str, connections: int) -> None:
        for _ in range(connections):
            self._idle.append(await LoadConnection.opened(url))
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
        """Wait until an instant, with a busy wait at the end: timers fire up to a millisecond late."""
        awake = AWAKE_SECONDS if self._interval >= AT_LEISURE_SECONDS else 0.0
        wait = due - time.monotonic() - awake
        if wait > 0:
            await asyncio.sleep(wait)
        while time.monotonic() < due:  # noqa: ASYNC110  it waits for an instant, not for an event
            await asyncio.sleep(0)

    def _due(self, number: int) -> float:
        return self._began + number * self._interval

    def _send(self, number: int, connection: LoadConnection) -> None:
        answered = connection.send(self._requests[number % len(self._requests)])
        answered.add_done_callback(lambda answer: self._answered(number, connection, *answer.result()))

    def _answered(self, number: int, connection: LoadConnection, status: int, answer: bytes) -> None:
        self.latencies.append(time.monotonic() - self._due(number))
        if status != OK:
            self.errors[f"{status} {answer[:MAX_SHOWN].decode(errors='replace')}"] += 1
        if len(self.latencies) == self._total:
            self._done.set()
        elif self._late:
            self._send(self._late.popleft(), connection)
        else:
            self._idle.append(connection)

    def _give_up(self, now: float) -> None:
        """Count requests without an answer with their waiting time so far."""
        missing = self._total - len(self.latencies)
        self.errors["no answer"] += missing
        self.latencies += [max(GRACE_SECONDS, now - self._due(self._total))] * missing


def centile_ms(latencies: Sequence[float], share: float) -> float:
    """The latency at a quantile of sorted latencies in seconds."""
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
        "error_kinds": dict(generator.errors.most_common(MAX_SHOWN)),
        "p50_ms": centile_ms(latencies, 0.5),
        "p95_ms": centile_ms(latencies, 0.95),
        "p99_ms": centile_ms(latencies, 0.99),
        "p999_ms": centile_ms(latencies, 0.999),
        "max_ms": centile_ms(latencies, 1.0),
    }
    print(json.dumps(figures))  # noqa: T201  the answer to whoever started this process


if __name__ == "__main__":
    main()
