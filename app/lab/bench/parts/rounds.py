"""Compared parts in turn, round after round.

The rate of a shared machine changes within minutes, so only the ratio of neighbouring measurements says anything. Each
round measures every part once, every other round in reverse order. The processes of all parts run all the time, but
only one part receives heartbeats at a time. Ratios are those of the heartbeat and a baseline of the same round.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from app.lab.bench.environment import BenchEnvironment, Measured
from app.lab.bench.failures import Skipped
from app.lab.bench.parts import asgi, echo, go_service, heartbeat, one_script
from app.lab.bench.parts.part import BenchPart, Contender, Figures, Turn, figures_of
from app.lab.bench.spread import Spread, shown

COMPARED = (heartbeat.PART, go_service.PART, one_script.PART, asgi.PART, echo.PART)
OURS = heartbeat.PART.name
GROUPS = {"api": ("api",), "redis": ("valkey",), "flush": ("worker", "postgres"), "load": ("wrk",)}
"""Processes of each share of the cost of a heartbeat."""
LOAD_GENERATOR = "wrk"


def run(stage: BenchEnvironment) -> Figures:
    chosen = [part for part in COMPARED if not stage.plan.compared or part.name in stage.plan.compared]
    skipped: dict[str, str] = {}
    turns: dict[str, Turn] = {}
    found: dict[str, list[Figures]] = defaultdict(list)
    with ExitStack() as ending:
        for part in chosen:
            try:
                turns[part.name] = ending.enter_context(_contender(part).prepare(stage))
            except Skipped as reason:
                skipped[part.name] = str(reason)
                stage.view.note(f"[yellow]rounds without {part.name}[/]: {reason}")
        in_turn = [part for part in chosen if part.name in turns]
        for number in range(stage.plan.repeat):
            for part in reversed(in_turn) if number % 2 else in_turn:
                measured = turns[part.name]()
                found[part.name].append(figures_of(measured) | {"cpu_us_per_beat": costs(part, measured)})
    return {
        "repeat": stage.plan.repeat,
        "parts": {name: _summed(rounds) for name, rounds in found.items()},
        "ratio_to": ratios(found),
        "errors": sum(figures["errors"] for rounds in found.values() for figures in rounds),
        **({"skipped": skipped} if skipped else {}),
    }


def _contender(part: BenchPart) -> Contender:
    if part.contender is None:
        raise ValueError(f"{part.name} cannot be compared in rounds")
    return part.contender


def costs(part: BenchPart, measured: Measured) -> dict[str, float]:
    """CPU time per heartbeat in µs, by share and in total, of the processes that a part needs."""
    counted = {*_contender(part).processes, LOAD_GENERATOR}
    shares = {share: measured.microseconds(*names) for share, names in GROUPS.items() if counted.intersection(names)}
    return shares | {"total": round(sum(shares.values()), 2)}


def ratios(found: Mapping[str, Sequence[Figures]]) -> dict[str, Figures]:
    """The heartbeat over each baseline, paired by round: rate, and CPU time of everything that a heartbeat costs."""
    ours = found.get(OURS, [])
    answer: dict[str, Figures] = {}
    for name, theirs in found.items():
        if name == OURS or not ours:
            continue
        rates = [one["per_second"] / other["per_second"] for one, other in zip(ours, theirs, strict=True)]
        costs_of = [
            one["cpu_us_per_beat"]["total"] / other["cpu_us_per_beat"]["total"]
            for one, other in zip(ours, theirs, strict=True)
        ]
        answer[name] = {
            "per_second": Spread.of(rates).figures() | {"rounds": [round(rate, 3) for rate in rates]},
            "cpu_per_beat": Spread.of(costs_of).figures() | {"rounds": [round(cost, 3) for cost in costs_of]},
        }
    return answer


def _summed(rounds: Sequence[Figures]) -> Figures:
    shares = rounds[0]["cpu_us_per_beat"]
    return {
        "per_second": Spread.of([figures["per_second"] for figures in rounds]).figures(1),
        "p99_ms": Spread.of([figures["p99_ms"] for figures in rounds]).figures(),
        "cpu_us_per_beat": {
            share: Spread.of([figures["cpu_us_per_beat"][share] for figures in rounds]).figures(2) for share in shares
        },
        "rounds": list(rounds),
    }


def summary(figures: Figures) -> str:
    """A line for each part, and one for each ratio."""
    lines = [f"medians of {figures['repeat']} (quartiles)"]
    for name, part in figures["parts"].items():
        each = part["cpu_us_per_beat"]
        split = ", ".join(f"{share} {cost['median']:.1f}" for share, cost in each.items() if share != "total")
        lines.append(f"{name}: {shown(part['per_second'], ',.0f')}/s, {shown(each['total'], '.1f')} µs a beat: {split}")
    for name, ratio in figures["ratio_to"].items():
        rate, cost = shown(ratio["per_second"]), shown(ratio["cpu_per_beat"])
        lines.append(f"heartbeat to {name}: {rate} of its rate, {cost} of its processor time")
    lines += [f"without {name}: {reason}" for name, reason in figures.get("skipped", {}).items()]
    return "\n".join(lines)


PART = BenchPart(name="rounds", run=run, summary=summary)
