"""Reports for parents about past viewing. This feature only reads, and only from PostgreSQL."""

from dataclasses import dataclass

from app.clock import Clock
from app.reports.history import History
from app.reports.weekly import WeeklyReports


@dataclass(frozen=True, kw_only=True)
class Reports:
    """Dependencies of the report calls. A session that is silent for longer than ``max_gap_ms`` has ended."""

    clock: Clock
    history: History
    weekly: WeeklyReports
    max_gap_ms: int
