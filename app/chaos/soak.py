"""A long mix of faults by a seed, under load, and the reckoning at its end."""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import msgspec
import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own

from app.chaos.blows import BLOWS, Scene
from app.chaos.crowd import Crowd, Tale
from app.chaos.stand import Stand
from app.domain.ledger import Watched
from app.reconciling.service import Findings

INTERVAL_SECONDS = 2.0
CHURN = 0.01
CALM_SECONDS = (1.0, 6.0)
WARM_SECONDS = 5.0
COOL_SECONDS = 5.0
SETTLE_SECONDS = 180.0
SAMPLE_SECONDS = 5.0
DEFECTS = ("500", "403", "404", "422", "401")
"""No fault excuses these answers."""
GROWTH = 1.3
SLACK_BYTES = 48 * 2**20
SLACK_DESCRIPTORS = 64
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What the deployment's processes hold at an instant, those of a kind together: players move between them."""

    at_seconds: float
    api_bytes: int
    worker_bytes: int
    api_descriptors: int
    worker_descriptors: int


@dataclass(kw_only=True)
class Outcome:
    """What a soak came to."""

    seed: int
    seconds: float
    blows: int
    answers: Counter[str]
    per_second: float
    calm_per_second: float
    worst_ms: float
    falls: int
    unended: int
    findings: Findings
    samples: Sequence[Sample] = field(repr=False)

    def faults(self) -> list[str]:
        """Whatever must not be; empty when all is well."""
        told = [
            f"{each.kind.value}: {each.profile_id}, expected {each.expected:.3f} s, found {each.found:.3f} s"
            for each in self.findings.differences
        ]
        defects = {what: count for what, count in self.answers.items() if what.startswith(DEFECTS)}
        told += [f"{count} answers {what}" for what, count in sorted(defects.items())]
        if self.findings.waiting:
            told.append(f"{self.findings.waiting} days were not flushed in time")
        if self.unended:
            told.append(f"{self.unended} players could not end their session")
        if self.falls:
            told.append(f"{self.falls} times a used time was less than before")
        return told + _growth(self.samples)


class Soak:
    """One run.

    Args:
        stand: whose network can fail.
        seed: of everything that is chosen.
        seconds: how long things go wrong.
        per_second: heartbeats, while all is well.
        say: is told what happens.
    """

    def __init__(
        self, stand: Stand, *, seed: int, seconds: float, per_second: float, say: Callable[[str], None]
    ) -> None:
        self._stand = stand
        self._seed = seed
        self._seconds = seconds
        self._chance = random.Random(seed)  # noqa: S311  to be repeated, not to be kept secret
        self._say = say
        self._crowd: Crowd = stand.crowd(
            round(per_second * INTERVAL_SECONDS), interval_seconds=INTERVAL_SECONDS, churn=CHURN, seed=seed
        )
        self._all = Tale()
        self._samples: list[Sample] = []
        self._began = 0.0
        self._worst_ms = 0.0

    def run(self, ledger_file: Path | None = None) -> Outcome:
        """Let it happen, then have everybody end, and compare."""
        self._crowd.start()
        time.sleep(2 * WARM_SECONDS)
        self._crowd.cut_tale()
        self._began = time.monotonic()
        time.sleep(WARM_SECONDS)
        calm = self._note("all is well")
        calm_per_second = calm.answers["200"] / WARM_SECONDS
        blows = 0
        while time.monotonic() - self._began < self._seconds:
            name = self._chance.choice(list(BLOWS))
            began = time.monotonic()
            BLOWS[name](Scene(self._stand, self._crowd, self._chance))
            took = time.monotonic() - began
            self._wait(self._chance.uniform(*CALM_SECONDS))
            self._stand.mend()
            self._note(f"{name} ({took:.1f} s)")
            blows += 1
        self._stand.mend()
        time.sleep(COOL_SECONDS)
        self._note("all is well")
        took = time.monotonic() - self._began
        unended = self._crowd.settle(seconds=SETTLE_SECONDS)
        self._say(f"{self._time()}  everybody has ended; comparing")
        ledger = self._crowd.ledger()
        if ledger_file is not None:
            write_ledger(ledger_file, ledger)
        return Outcome(
            seed=self._seed,
            seconds=took,
            blows=blows,
            answers=self._all.answers,
            per_second=self._all.beats / took,
            calm_per_second=calm_per_second,
            worst_ms=self._worst_ms,
            falls=self._all.falls,
            unended=unended,
            findings=self._stand.settled(ledger, seconds=SETTLE_SECONDS),
            samples=self._samples,
        )

    def _wait(self, seconds: float) -> None:
        time.sleep(seconds)
        if not self._samples or time.monotonic() - self._began - self._samples[-1].at_seconds > SAMPLE_SECONDS:
            with suppress(psutil.Error, OSError):
                self._samples.append(self._sample())

    def _sample(self) -> Sample:
        api = [psutil.Process(pid) for pid in self._stand.pids("api")]
        worker = [psutil.Process(pid) for pid in self._stand.pids("worker")]
        return Sample(
            at_seconds=time.monotonic() - self._began,
            api_bytes=sum(process.memory_info().rss for process in api),
            worker_bytes=sum(process.memory_info().rss for process in worker),
            api_descriptors=sum(process.num_fds() for process in api),
            worker_descriptors=sum(process.num_fds() for process in worker),
        )

    def _note(self, what: str) -> Tale:
        """Tell what just happened and what the players met with meanwhile."""
        tale = self._crowd.cut_tale()
        self._all.answers += tale.answers
        self._all.falls += tale.falls
        self._worst_ms = max(self._worst_ms, tale.worst_ms)
        answers = ", ".join(f"{count} x {answer}" for answer, count in tale.answers.most_common())
        self._say(f"{self._time()}  {what}: {answers}; worst {tale.worst_ms:.0f} ms")
        return tale

    def _time(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        return f"{minutes:3}:{seconds:02}"


def write_ledger(file: Path, ledger: Sequence[Watched]) -> None:
    """For `hourglass reconcile --ledger`."""
    file.write_bytes(msgspec.json.Encoder().encode_lines(ledger))


def _growth(samples: Sequence[Sample]) -> list[str]:
    """What is larger in the last third of a run than it was in the first."""
    third = len(samples) // 3
    if not third:
        return []
    told = []
    for name, slack, unit, by in (
        ("api_bytes", SLACK_BYTES, "MiB", MIB),
        ("worker_bytes", SLACK_BYTES, "MiB", MIB),
        ("api_descriptors", SLACK_DESCRIPTORS, "descriptors", 1),
        ("worker_descriptors", SLACK_DESCRIPTORS, "descriptors", 1),
    ):
        first = median(getattr(sample, name) for sample in samples[:third])
        last = median(getattr(sample, name) for sample in samples[-third:])
        if last > first * GROWTH + slack:
            told.append(f"{name.partition('_')[0]} grew from {first / by:.0f} to {last / by:.0f} {unit}")
    return told
