"""What parents read about the past. Read only, from PostgreSQL only."""

from dataclasses import dataclass

from app.clock import Clock
from app.reports.history import History
from app.reports.weekly import WeeklyReports


@dataclass(frozen=True, kw_only=True)
class Reports:
    """What the calls of this feature work with. A session silent for longer than ``max_gap_ms`` has ended."""

    clock: Clock
    history: History
    weekly: WeeklyReports
    max_gap_ms: int
