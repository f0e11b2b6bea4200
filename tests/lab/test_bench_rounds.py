"""Rounds of compared parts: their order, their costs, and the ratios of neighbouring measurements."""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from app.cli import app as command_line
from app.lab.bench import machine
from app.lab.bench.environment import BenchEnvironment, Measured
from app.lab.bench.failures import Skipped
from app.lab.bench.load import Loaded
from app.lab.bench.parts import COMPARED, ON_REQUEST, PARTS, chosen_parts, rounds
from app.lab.bench.parts.cluster import MASTERS, Variant
from app.lab.bench.parts.part import BenchPart, Contender, Turn, summary_of
from app.lab.bench.plan import Plan
from app.lab.bench.spread import Spread, shown
from app.lab.bench.table import table

REQUESTS = 1_000


def measured(per_second: float, **cpu_seconds: float) -> Measured:
    loaded = Loaded(
        requests=REQUESTS,
        seconds=REQUESTS / per_second,
        ends=0,
        openings=0,
        p50_ms=1.0,
        p90_ms=1.0,
        p99_ms=1.0,
        p999_ms=1.0,
        max_ms=1.0,
        errors=0,
        error_kinds={},
        cpu_seconds=cpu_seconds.get("wrk", 0.0),
    )
    return Measured(loaded=loaded, cpu_seconds=cpu_seconds)


def part(name: str, prepare: Callable[[BenchEnvironment], AbstractContextManager[Turn]], *processes: str) -> BenchPart:
    def run(_: BenchEnvironment) -> dict[str, object]:
        raise AssertionError("rounds measure in turn")

    return BenchPart(
        name=name, run=run, summary=summary_of, contender=Contender(prepare=prepare, processes=processes or ("api",))
    )


class Scene:
    """Parts that note when they start, measure and end, on a machine whose speed changes between rounds."""

    def __init__(self, speeds: Mapping[str, float], *, unavailable: str = "") -> None:
        self.log: list[str] = []
        self.notes: list[str] = []
        self._speeds = speeds
        self._unavailable = unavailable
        self.parts = tuple(part(name, self._prepared(name)) for name in speeds)

    def _prepared(self, name: str) -> Callable[[BenchEnvironment], AbstractContextManager[Turn]]:
        @contextmanager
        def prepare(_: BenchEnvironment) -> Iterator[Turn]:
            if name == self._unavailable:
                raise Skipped("it is not installed")
            self.log.append(f"+{name}")
            yield lambda: self._measure(name)
            self.log.append(f"-{name}")

        return prepare

    def _measure(self, name: str) -> Measured:
        taken = [entry for entry in self.log if entry == name]
        self.log.append(name)
        weather = (1.0, 0.25, 2.0)[len(taken) % 3]
        return measured(self._speeds[name] * weather, api=0.010 / weather, wrk=0.005 / weather)

    def stage(self, *, repeat: int, compared: tuple[str, ...] = ()) -> BenchEnvironment:
        plan = Plan.of(quick=True, viewers=100, seconds=2, repeat=repeat, compared=compared)
        view = SimpleNamespace(note=self.notes.append, doing=lambda *_, **__: nullcontext())
        return cast("BenchEnvironment", SimpleNamespace(plan=plan, view=view))


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    scene = Scene({"heartbeat": 20_000.0, "go_service": 10_000.0, "echo": 40_000.0})
    monkeypatch.setattr(rounds, "COMPARED", scene.parts)
    return scene


def test_parts_take_turns_in_an_order_that_favours_none(scene: Scene) -> None:
    rounds.run(scene.stage(repeat=3))
    names = ["heartbeat", "go_service", "echo"]
    starts, ends = [f"+{name}" for name in names], [f"-{name}" for name in reversed(names)]
    assert scene.log == [*starts, *names, *reversed(names), *names, *ends]


def test_ratios_are_those_of_the_same_round(scene: Scene) -> None:
    """A machine that is four times as slow for a round changes rates, and no ratio."""
    found = rounds.run(scene.stage(repeat=3))
    assert found["parts"]["heartbeat"]["per_second"]["lower_quartile"] < 15_000
    for name, ratio in (("go_service", 2.0), ("echo", 0.5)):
        rates = found["ratio_to"][name]["per_second"]
        assert rates["rounds"] == [ratio] * 3
        assert rates["lower_quartile"] == rates["median"] == rates["upper_quartile"] == ratio
        assert found["ratio_to"][name]["cpu_per_beat"]["median"] == 1
    assert "heartbeat" not in found["ratio_to"]
    assert "2.00" in rounds.summary(found)


def test_named_parts_alone_take_turns(scene: Scene) -> None:
    found = rounds.run(scene.stage(repeat=1, compared=("echo",)))
    assert list(found["parts"]) == ["echo"]
    assert found["ratio_to"] == {}
    assert rounds.summary(found)


def test_a_part_that_cannot_start_is_left_out_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene({"heartbeat": 2.0, "go_service": 1.0, "echo": 4.0}, unavailable="go_service")
    monkeypatch.setattr(rounds, "COMPARED", scene.parts)
    found = rounds.run(scene.stage(repeat=2))
    assert set(found["ratio_to"]) == {"echo"}
    assert found["skipped"] == {"go_service": "it is not installed"}
    assert "it is not installed" in scene.notes[0]
    assert "it is not installed" in rounds.summary(found)


def test_a_heartbeat_costs_the_time_of_its_own_processes_and_of_the_load() -> None:
    used = {
        "api": 0.050,
        "valkey": 0.020,
        "worker": 0.006,
        "postgres": 0.004,
        "wrk": 0.010,
        "others": 3.0,
        "bench": 1.0,
    }
    service, echo = (
        part(name, lambda _: nullcontext(lambda: measured(1.0)), *processes)
        for name, processes in (("service", ("api", "valkey", "worker", "postgres")), ("echo", ("api",)))
    )
    assert rounds.costs(service, measured(100.0, **used)) == {
        "api": 50.0,
        "redis": 20.0,
        "flush": 10.0,
        "load": 10.0,
        "total": 90.0,
    }
    assert rounds.costs(echo, measured(100.0, **used)) == {"api": 50.0, "load": 10.0, "total": 60.0}


def test_every_compared_part_can_take_a_turn() -> None:
    assert {part.name for part in PARTS if part.contender is not None} == COMPARED
    assert {"heartbeat", "go_service", "one_script", "asgi", "echo"} == COMPARED


def test_rounds_and_clusters_run_only_on_request() -> None:
    def names(*only: str, repeats: bool) -> list[str]:
        return [part.name for part in chosen_parts(only, repeats=repeats)]

    assert set(names(repeats=False)) == {part.name for part in PARTS} - ON_REQUEST
    assert set(names(repeats=True)) == set(names(repeats=False)) | {"rounds"}
    assert names("echo", "heartbeat", repeats=True) == ["heartbeat", "echo", "rounds"]
    assert names("batch", repeats=True) == ["batch"]
    assert names("rounds", repeats=True) == ["rounds"]
    assert names("cluster", repeats=True) == ["cluster"]


def test_repeating_a_part_that_is_not_compared_is_refused() -> None:
    refused = CliRunner().invoke(command_line, ["bench", "--only=batch", "--repeat=3"])
    assert refused.exit_code == 2
    assert "takes turns" in refused.output


def test_a_spread_has_the_quartiles_of_its_measurements() -> None:
    assert Spread.of([5, 1, 4, 2, 3]) == Spread(median=3, lower_quartile=2, upper_quartile=4)
    assert Spread.of([7.0]) == Spread(median=7, lower_quartile=7, upper_quartile=7)
    assert shown(Spread.of([7.0]).figures()) == "7.00"
    assert shown(Spread.of([0.5, 1.5, 2.5]).figures()) == "1.50 (1.00\N{EN DASH}2.00)"


def test_the_state_of_the_machine_names_what_else_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MAX_NAMED", 1_000)
    with subprocess.Popen(["/usr/bin/yes"], stdout=subprocess.DEVNULL) as busy:
        found = machine.state()
        busy.kill()
    assert len(cast("list[float]", found["load_average"])) == 3
    assert cast("dict[str, float]", found["programs"])["yes"] > machine.MIN_SHARE
    assert cast("float", found["busy_processors"]) > machine.MIN_SHARE


@pytest.mark.parametrize("buckets", [16, 64])
def test_no_master_serves_all_children_of_a_larger_cluster(buckets: int) -> None:
    shares = [Variant(masters=masters, buckets=buckets).busiest_share for masters in MASTERS]
    assert shares[0] == 1
    assert all(1 / masters <= share < 1 for masters, share in zip(MASTERS[1:], shares[1:], strict=True))


def test_the_table_warns_of_what_else_ran_before_and_meanwhile() -> None:
    """Measurements of rounds lie deeper in the result than those of other parts."""
    quiet = {"cpu_seconds": {"api": 0.9, "wrk": 0.1, "others": 0.01, "stolen": 0.0}}
    result: dict[str, Any] = {
        "machine": {
            "cpus": 2,
            "cpu": "a processor",
            "memory_bytes": 2**34,
            "before": {"load_average": [0.1, 0.1, 0.1], "busy_processors": 0.05, "programs": {}},
        },
        "run": {"viewers": 100, "connections": 4, "api_processes": 2},
        "echo": quiet,
        "rounds": {"parts": {"echo": {"rounds": [quiet, quiet]}}},
    }
    assert not table(result, []).caption
    result["machine"]["before"] |= {"busy_processors": 1.2, "programs": {"postgres": 1.1}}
    assert "1.2 processors were busy (postgres)" in str(table(result, []).caption)
    result["rounds"]["parts"]["echo"]["rounds"].append({"cpu_seconds": {"api": 1.0, "others": 0.8, "stolen": 0.2}})
    assert "others used 20% of the busy processors" in str(table(result, []).caption)
