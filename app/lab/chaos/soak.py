"""A long random mix of faults under load, with a comparison at the end."""

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

from app.auth.lease_keys import new_lease_key
from app.domain.playback_bounds import PlaybackBounds
from app.lab.chaos.clients import ClientPool, ClientStats
from app.lab.chaos.deployment import ChaosDeployment
from app.lab.chaos.faults import BLOWS, Scene
from app.lab.chaos.feed_consumer import FeedResult
from app.reconciling.service import Findings

INTERVAL_SECONDS = 2.0
CHURN = 0.01
TOGETHER = 0.2
LEASED = 0.2
CALM_SECONDS = (1.0, 6.0)
WARM_SECONDS = 5.0
COOL_SECONDS = 5.0
SETTLE_SECONDS = 180.0
FEED_SECONDS = 30.0
SAMPLE_SECONDS = 5.0
DEFECTS = ("500", "403", "404", "422", "401")
"""Answers that no fault excuses."""
GROWTH = 1.3
SLACK_BYTES = 48 * 2**20
SLACK_DESCRIPTORS = 64
MIB = 2**20


def soak_settings() -> dict[str, object]:
    """The settings of a deployment for a soak: flushes as often as is useful, the feed, and a lease key of its own."""
    return {
        "flush_age_seconds": 5.0,
        "flush_cycle_seconds": 2.0,
        "event_feed": True,
        "lease_key": new_lease_key(),
    }


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The resources of the deployment's processes, summed by kind, because players move between processes."""

    at_seconds: float
    api_bytes: int
    worker_bytes: int
    api_descriptors: int
    worker_descriptors: int


@dataclass(kw_only=True)
class SoakResult:
    """The result of a soak."""

    seed: int
    seconds: float
    faults: int
    answers: Counter[str]
    per_second: float
    calm_per_second: float
    worst_ms: float
    falls: int
    unended: int
    leases: int
    wrong_leases: int
    feed: FeedResult
    findings: Findings
    samples: Sequence[Sample] = field(repr=False)

    def failures(self) -> list[str]:
        """All failures; empty after a good run."""
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
        if self.wrong_leases or not self.leases:
            told.append(f"{self.wrong_leases} wrong leases among {self.leases}")
        if not self.feed.ended:
            told.append("feed: no ended session was read")
        told += self.feed.differences
        return told + _growth(self.samples)


class Soak:
    """One run.

    Args:
        deployment: a deployment with a proxied network.
        seed: seed of all random choices.
        seconds: duration of the faults.
        per_second: heartbeats per second without a fault.
        say: receives progress messages.
    """

    def __init__(
        self, deployment: ChaosDeployment, *, seed: int, seconds: float, per_second: float, say: Callable[[str], None]
    ) -> None:
        self._deployment = deployment
        self._seed = seed
        self._seconds = seconds
        self._chance = random.Random(seed)  # noqa: S311  to be repeated, not to be kept secret
        self._say = say
        self._clients: ClientPool = deployment.clients(
            round(per_second * INTERVAL_SECONDS),
            interval_seconds=INTERVAL_SECONDS,
            churn=CHURN,
            together=TOGETHER,
            leased=LEASED,
            seed=seed,
        )
        self._consumer = deployment.feed_consumer()
        self._all = ClientStats()
        self._samples: list[Sample] = []
        self._began = 0.0
        self._worst_ms = 0.0

    def run(self, ledger_file: Path | None = None) -> SoakResult:
        """Inject the faults, end all sessions, and compare."""
        self._consumer.start()
        self._clients.start()
        time.sleep(2 * WARM_SECONDS)
        self._clients.cut_stats()
        self._began = time.monotonic()
        time.sleep(WARM_SECONDS)
        calm = self._note("all is well")
        calm_per_second = calm.answers["200"] / WARM_SECONDS
        faults = 0
        while time.monotonic() - self._began < self._seconds:
            name = self._chance.choice(list(BLOWS))
            began = time.monotonic()
            BLOWS[name](Scene(self._deployment, self._clients, self._chance))
            took = time.monotonic() - began
            self._wait(self._chance.uniform(*CALM_SECONDS))
            self._deployment.repair()
            self._note(f"{name} ({took:.1f} s)")
            faults += 1
        self._deployment.repair()
        time.sleep(COOL_SECONDS)
        self._note("all is well")
        took = time.monotonic() - self._began
        unended = self._clients.settle(seconds=SETTLE_SECONDS)
        self._say(f"{self._time()}  all sessions have ended; comparing")
        ledger = self._clients.ledger()
        if ledger_file is not None:
            write_ledger(ledger_file, ledger)
        findings = self._deployment.settled(ledger, seconds=SETTLE_SECONDS)
        feed = self._deployment.feed_result(self._consumer, self._clients, seconds=FEED_SECONDS)
        self._consumer.stop()
        return SoakResult(
            seed=self._seed,
            seconds=took,
            faults=faults,
            answers=self._all.answers,
            per_second=self._all.beats / took,
            calm_per_second=calm_per_second,
            worst_ms=self._worst_ms,
            falls=self._all.falls,
            unended=unended,
            leases=self._all.leases,
            wrong_leases=self._all.wrong_leases,
            feed=feed,
            findings=findings,
            samples=self._samples,
        )

    def _wait(self, seconds: float) -> None:
        time.sleep(seconds)
        if not self._samples or time.monotonic() - self._began - self._samples[-1].at_seconds > SAMPLE_SECONDS:
            with suppress(psutil.Error, OSError):
                self._samples.append(self._sample())

    def _sample(self) -> Sample:
        api = [psutil.Process(pid) for pid in self._deployment.pids("api")]
        worker = [psutil.Process(pid) for pid in self._deployment.pids("worker")]
        return Sample(
            at_seconds=time.monotonic() - self._began,
            api_bytes=sum(process.memory_info().rss for process in api),
            worker_bytes=sum(process.memory_info().rss for process in worker),
            api_descriptors=sum(process.num_fds() for process in api),
            worker_descriptors=sum(process.num_fds() for process in worker),
        )

    def _note(self, what: str) -> ClientStats:
        """Report a fault and the players' answers during it."""
        stats = self._clients.cut_stats()
        self._all.answers += stats.answers
        self._all.falls += stats.falls
        self._all.leases += stats.leases
        self._all.wrong_leases += stats.wrong_leases
        self._worst_ms = max(self._worst_ms, stats.worst_ms)
        answers = ", ".join(f"{count} x {answer}" for answer, count in stats.answers.most_common())
        self._say(f"{self._time()}  {what}: {answers}; worst {stats.worst_ms:.0f} ms")
        return stats

    def _time(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        return f"{minutes:3}:{seconds:02}"


def write_ledger(file: Path, ledger: Sequence[PlaybackBounds]) -> None:
    """Write the ledger for `hourglass reconcile --ledger`."""
    file.write_bytes(msgspec.json.Encoder().encode_lines(ledger))


def _growth(samples: Sequence[Sample]) -> list[str]:
    """The resources that are larger in the last third of a run than in the first."""
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
