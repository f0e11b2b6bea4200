"""The shadow report: whom enforcement would have blocked, and for how long."""

from datetime import date, timedelta

from app.auth.tokens import Principal
from app.clock import Clock
from app.domain.external_ids import is_uuid
from app.domain.markets import SHADOW, Markets
from app.domain.pages import cut_page
from app.domain.platform import ShadowDay
from app.errors import InvalidInput
from app.platform.ports import ShadowDays

MAX_RANGE = timedelta(days=90)


class ShadowReport:
    """Reads the days on which children in shadow mode watched beyond their allowance."""

    def __init__(self, days: ShadowDays, markets: Markets, *, clock: Clock) -> None:
        self._days = days
        self._markets = markets
        self._clock = clock

    async def page(
        self, reader: Principal, *, first: date, last: date, market: str | None, cursor: str | None, limit: int
    ) -> tuple[list[ShadowDay], str | None]:
        """The days from ``first`` to ``last``, at most ``limit``, and the cursor of the next page.

        The audit log of each account on the page says who has read it.

        Raises:
            InvalidInput: the range is empty or longer than 90 days, or the cursor was not answered.
        """
        if not first <= last <= first + MAX_RANGE:
            raise _refused("to_date", f"must be from 0 to {MAX_RANGE.days} days after from_date")
        named = [known for known in self._markets.all() if known is not self._markets.default]
        found = await self._days.days(
            first=first,
            last=last,
            known=[known.name for known in named],
            shadow=[known.name for known in named if known.enforcement == SHADOW],
            default_is_shadow=self._markets.default.enforcement == SHADOW,
            market=market,
            after=None if cursor is None else _position(cursor),
            most=limit + 1,
        )
        page, end = cut_page(found, limit, lambda last: f"{last.day.isoformat()}_{last.profile_id}")
        if page:
            actor = f"{reader.role}:{reader.account_id}"
            await self._days.note_reading(page, actor=actor, at_ms=self._clock())
        return page, end


def _position(cursor: str) -> tuple[date, str]:
    day, _, profile_id = cursor.partition("_")
    try:
        position = date.fromisoformat(day), profile_id
    except ValueError:
        raise _refused("cursor", "is not one that was answered") from None
    if not is_uuid(profile_id):
        raise _refused("cursor", "is not one that was answered")
    return position


def _refused(parameter: str, detail: str) -> InvalidInput:
    return InvalidInput(errors=[{"parameter": parameter, "in": "query", "detail": detail}])
