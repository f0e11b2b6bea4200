"""A trial: players, a fault, and the result, recorded for docs/explanation/reliability.md."""

import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Self

from app.lab.chaos.clients import ClientStats
from app.lab.chaos.deployment import ChaosDeployment
from app.reconciling.service import DifferenceKind, Findings

PATIENT = {"redis_timeout_seconds": 5}
"""For tests that use all CPU time, which must not look like an unreachable Redis."""
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Record:
    """One line of the table. Seconds are sums over all players."""

    row: int
    fault: str
    came: str
    lost: float
    doubled: float
    worst_ms: float


RECORDS: list[Record] = []


class Trial:
    """Players that watch from entering to leaving the block. The block injects the fault."""

    def __init__(self, deployment: ChaosDeployment, *, row: int, fault: str, size: int, **options: float) -> None:
        self.deployment = deployment
        self.clients = deployment.clients(size, **options)  # type: ignore[arg-type]  # numbers all of them
        self.before = ClientStats()
        self.during = ClientStats()
        self.after = ClientStats()
        self.findings = Findings()
        self._logged = len(deployment.log)
        self._row = row
        self._fault = fault

    def __enter__(self) -> Self:
        self.clients.start()
        try:
            self._wait(lambda: self._heard >= 2 * self.clients.size and self.clients.is_watching(), "everybody watches")
        except BaseException:
            self.clients.leave()  # nobody plays on during the next test
            raise
        self.before = self.clients.cut_stats()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.clients.leave()
            return
        self.during = self.clients.cut_stats()
        self.deployment.repair()
        unended = self.clients.settle()
        self.after = self.clients.cut_stats()
        self.findings = self.deployment.settled(self.clients.ledger())
        mine = set(self.clients.profile_ids)  # what an earlier test has spoilt is told by that
        self.findings.differences = [each for each in self.findings.differences if each.profile_id in mine]
        self._note()
        assert unended == 0, f"{unended} players could not end: {self.after.answers}"
        assert self.before.only("200"), self.before.answers

    @property
    def _heard(self) -> int:
        return self.clients.stats.answers["200"]

    def endure(self, seconds: float) -> None:
        """Let the fault last."""
        time.sleep(seconds)

    def until_heard(self) -> None:
        """Wait until heartbeats of all players are counted again."""
        enough = self._heard + 2 * self.clients.size
        self._wait(lambda: self._heard >= enough and self.clients.is_watching(), "everybody is heard again")

    def until_flushed(self) -> None:
        """Wait until PostgreSQL has all that is counted now."""
        began = time.monotonic()
        self._wait(
            lambda: self.deployment.oldest_unflushed_seconds() < time.monotonic() - began, "what was counted is flushed"
        )

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        assert self.deployment.eventually(condition, seconds=PATIENCE_SECONDS), (
            f"not within {PATIENCE_SECONDS} s: {what}"
        )

    def expect_exact(self) -> None:
        """Nothing lost or doubled: all stores and players agree, and no used time fell."""
        assert self.clients.ledger(), "nobody watched anything"
        assert self.findings.differences == []
        assert self.findings.waiting == 0
        assert self.before.falls + self.during.falls + self.after.falls == 0

    def expect_answers(self, *allowed: str) -> None:
        """Only these answers occurred during the fault."""
        assert self.during.only(*allowed), f"{self.during.answers}\n{self.deployment.log[self._logged :][-6000:]}"

    def _note(self) -> None:
        if not self._row:  # no fault of the list
            return
        differences = self.findings.differences
        RECORDS.append(
            Record(
                row=self._row,
                fault=self._fault,
                came=_described(self.during.answers),
                lost=sum(each.seconds for each in differences if each.kind is not DifferenceKind.DOUBLED),
                doubled=sum(each.seconds for each in differences if each.kind is DifferenceKind.DOUBLED),
                worst_ms=self.during.worst_ms,
            )
        )


def table() -> list[str]:
    """The table in Markdown."""
    lines = ["| # | fault | heartbeats during it | s lost | s doubled | worst answer |", "|--|--|--|--|--|--|"]
    lines += [
        f"| {record.row} | {record.fault} | {record.came} | {record.lost:.3f} | {record.doubled:.3f} "
        f"| {record.worst_ms:.0f} ms |"
        for record in sorted(RECORDS, key=lambda record: (record.row, record.fault))
    ]
    return lines


def _described(answers: Counter[str]) -> str:
    return ", ".join(f"{count} x {what}" for what, count in answers.most_common()) or "none"


def ids(names: Collection[str]) -> str:
    """SQL for a list of ids."""
    return ", ".join(f"'{name}'" for name in names)
