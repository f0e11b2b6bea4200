"""Callers that need the same value at the same time share one load."""

import asyncio

import pytest

from app.kit.single_flight import SingleFlight


class Source:
    """Answers each load when its gate opens."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.gate = asyncio.Event()
        self.is_away = False
        self.stale: dict[str, str] = {}

    async def load(self, key: str) -> str:
        self.loads.append(key)
        number = len(self.loads)
        await self.gate.wait()
        await asyncio.sleep(0)  # as any load over a network: the others ask meanwhile
        if self.is_away:
            raise OSError("away")
        return f"{key}{number}"

    def serve_stale(self, key: str, error: Exception) -> str:
        if key not in self.stale:
            raise error
        return self.stale[key]


@pytest.mark.parametrize(("cancelled", "loads"), [(0, 2), (1, 1), (2, 1)])
async def test_a_caller_that_is_cancelled_cancels_no_other(cancelled: int, loads: int) -> None:
    """The first caller loads; if it is cancelled, one of the others loads again."""
    source = Source()
    flights = SingleFlight(source.load)
    callers = [asyncio.ensure_future(flights.get("a")) for _ in range(3)]
    await asyncio.sleep(0)
    callers.pop(cancelled).cancel()
    source.gate.set()
    assert await asyncio.gather(*callers) == [f"a{loads}"] * 2
    assert len(source.loads) == loads
    assert await flights.get("a") == f"a{loads + 1}", "a load that has ended is not shared"


async def test_a_forgotten_load_answers_its_earlier_callers_only() -> None:
    source = Source()
    flights = SingleFlight(source.load)
    early = asyncio.ensure_future(flights.get("a"))
    await asyncio.sleep(0)
    flights.forget("a")
    late = asyncio.ensure_future(flights.get("a"))
    source.gate.set()
    assert (await early, await late) == ("a1", "a2")
    assert await flights.get("a") == "a3", "the first load that ended must not remove the second one"


async def test_an_error_reaches_all_callers_and_is_not_remembered() -> None:
    source = Source()
    flights = SingleFlight(source.load)
    source.is_away = True
    source.gate.set()
    for answer in await asyncio.gather(*(flights.get("a") for _ in range(2)), return_exceptions=True):
        assert isinstance(answer, OSError)
    source.is_away = False
    assert await flights.get("a") == "a2"


async def test_a_stale_value_serves_after_a_named_error_only() -> None:
    source = Source()
    source.is_away, source.stale = True, {"a": "old"}
    source.gate.set()
    flights = SingleFlight(source.load, stale_if=(OSError,), stale=source.serve_stale)
    assert await flights.get("a") == "old"
    with pytest.raises(OSError, match="away"):
        await flights.get("b")
    others = SingleFlight(source.load, stale_if=(LookupError,), stale=source.serve_stale)
    with pytest.raises(OSError, match="away"):
        await others.get("a")
