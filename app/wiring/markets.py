"""The markets file: read at start, and read again whenever it has changed."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from app.domain.markets import Market, Markets, MarketsInvalid, parse_markets
from app.observability import metrics
from app.settings.settings import Settings, SettingsError, variable_of

LOOK_SECONDS = 1.0
_MAX_BYTES = 1024 * 1024

log = structlog.get_logger(__name__)


class MarketsFile:
    """Keeps ``markets`` as the file says. A wrong file changes nothing: the markets before it stay in force.

    Args:
        path: the file; None if there is none.
        default: the rules of accounts without a market.

    Raises:
        MarketsInvalid: the file cannot be used. There is nothing before it to keep.
    """

    def __init__(self, path: Path | None, default: Market) -> None:
        self._path = path
        self._listeners: list[Callable[[], Awaitable[None]]] = []
        self._seen = b""
        self.markets = Markets(default)
        if path is not None:
            self._seen = _content(path)
            self.markets.replace(_parsed(self._seen, default))
        metrics.MARKETS_FILE_USABLE.set(1)

    def listen(self, listener: Callable[[], Awaitable[None]]) -> None:
        """Call ``listener`` after each change of the markets."""
        self._listeners.append(listener)

    async def look(self) -> None:
        """Read the file, and take over what has changed."""
        if self._path is None:
            return
        try:
            content = await asyncio.to_thread(_content, self._path)
            if content == self._seen:
                metrics.MARKETS_FILE_USABLE.set(1)
                return
            named = _parsed(content, self.markets.default)
        except MarketsInvalid as error:
            metrics.MARKETS_FILE_USABLE.set(0)
            log.warning("markets_file_refused", reason=str(error))
            return
        self._seen = content
        metrics.MARKETS_FILE_USABLE.set(1)
        if self.markets.replace(named):
            metrics.MARKETS_LOADED.inc()
            log.info("markets_changed", markets=len(named))
            for listener in self._listeners:
                await listener()


def markets_file(settings: Settings) -> MarketsFile:
    """The markets of a deployment. Raises SettingsError."""
    default = Market(
        weekend_days=settings.weekend_days,
        weekday_limit_minutes=settings.default_weekday_limit_minutes,
        weekend_limit_minutes=settings.default_weekend_limit_minutes,
        reset_hour=settings.default_reset_hour,
        warning_minutes=settings.default_warning_minutes,
        enforcement=settings.enforcement,
    )
    try:
        return MarketsFile(settings.markets_file, default)
    except MarketsInvalid as error:
        raise SettingsError(f"{variable_of('markets_file')}: {settings.markets_file} {error}") from None


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise MarketsInvalid(f"cannot be read: {error.strerror}") from None
    if len(content) > _MAX_BYTES:
        raise MarketsInvalid(f"has more than {_MAX_BYTES} bytes")
    return content


def _parsed(content: bytes, default: Market) -> list[Market]:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise MarketsInvalid("is not UTF-8 text") from None
    return parse_markets(text, default)
