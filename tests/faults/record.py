"""A trial: players, a fault, and what is left afterwards; noted for docs/reliability.md."""

import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

from app.chaos.crowd import Tale
from app.chaos.stand import Stand
from app.reconciling.service import Findings, Kind

PATIENT = {"redis_timeout_seconds": 5}
"""Where a test itself keeps every core busy, that must not look like a Redis that is away."""
LEAD_SECONDS = 1.5
"""All players have opened their session and beaten once more before anything happens."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One line of the table. Seconds over all players; ``seconds``: how long the fault and its end took."""

    row: int
    fault: str
    came: str
    lost: float
    doubled: float
    worst_ms: float


RECORDS: list[Record] = []


class Trial:
    """Players who watch from entering to leaving the block; the fault goes inside it."""

    def __init__(self, stand: Stand, *, row: int, fault: str, size: int, **options: float) -> None:
        self.stand = stand
        self.crowd = stand.crowd(size, **options)  # type: ignore[arg-type]  # numbers all of them
        self.before = Tale()
        self.during = Tale()
        self.after = Tale()
        self.findings = Findings()
        self._logged = len(stand.log)
        self._row = row
        self._fault = fault

    def __enter__(self) -> Self:
        self.crowd.start()
        time.sleep(LEAD_SECONDS)
        self.before = self.crowd.cut_tale()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.crowd.leave()
            return
        self.during = self.crowd.cut_tale()
        self.stand.mend()
        unended = self.crowd.settle()
        self.after = self.crowd.cut_tale()
        self.findings = self.stand.settled(self.crowd.ledger())
        mine = set(self.crowd.profile_ids)  # what an earlier test has spoilt is told by that
        self.findings.differences = [each for each in self.findings.differences if each.profile_id in mine]
        self._note()
        assert unended == 0, f"{unended} players could not end: {self.after.answers}"
        assert self.before.only("200"), self.before.answers

    def expect_exact(self) -> None:
        """0 / 0: Redis, PostgreSQL and the players agree, and no used time was ever less than one told before."""
        assert self.crowd.ledger(), "nobody watched anything"
        assert self.findings.differences == []
        assert self.findings.waiting == 0
        assert self.before.falls + self.during.falls + self.after.falls == 0

    def expect_answers(self, *allowed: str) -> None:
        """During the fault nothing but these."""
        assert self.during.only(*allowed), f"{self.during.answers}\n{self.stand.log[self._logged :][-6000:]}"

    def _note(self) -> None:
        if not self._row:  # no fault of the list
            return
        differences = self.findings.differences
        RECORDS.append(
            Record(
                row=self._row,
                fault=self._fault,
                came=_told(self.during.answers),
                lost=sum(each.seconds for each in differences if each.kind is not Kind.DOUBLED),
                doubled=sum(each.seconds for each in differences if each.kind is Kind.DOUBLED),
                worst_ms=self.during.worst_ms,
            )
        )


def table() -> list[str]:
    """In Markdown."""
    lines = ["| # | fault | heartbeats during it | s lost | s doubled | worst answer |", "|--|--|--|--|--|--|"]
    lines += [
        f"| {record.row} | {record.fault} | {record.came} | {record.lost:.3f} | {record.doubled:.3f} "
        f"| {record.worst_ms:.0f} ms |"
        for record in sorted(RECORDS, key=lambda record: (record.row, record.fault))
    ]
    return lines


def _told(answers: Counter[str]) -> str:
    return ", ".join(f"{count} x {what}" for what, count in answers.most_common()) or "none"


def ids(names: Collection[str]) -> str:
    """SQL for a list of ids of ours."""
    return ", ".join(f"'{name}'" for name in names)
