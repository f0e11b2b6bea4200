"""Hints of tampering: every kind of cheat is found, and no honest player is ever suspected."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import pytest

from app.domain.counters import NO_CLAIM
from app.domain.tampering import TEXTS, PositionWatch, Sighting, TamperKind, new_hints, seen

NOON = 1_772_452_800_000
MAX_GAP_MS = 300_000
HOUR = 3600
SEEDS = range(4)


def found(sightings: Iterator[Sighting]) -> list[TamperKind]:
    watch: PositionWatch | None = None
    kinds = []
    for sighting in sightings:
        later = seen(watch, sighting, max_gap_ms=MAX_GAP_MS)
        kinds += [hint.kind for hint in new_hints(watch, later)]
        watch = later
    return kinds


@dataclass
class Screen:
    """What a player shows, second by second, and the heartbeats that it sends of it.

    Attributes:
        speed: of playback.
        claims: whether it sends `watched_seconds`; `media` counts media time, as some players do.
        live: what the position of a live stream is: `epoch` counts from 1970, `window` jumps back as the window slides,
            `edge` is always 0.
    """

    chance: random.Random
    speed: float = 1.0
    claims: str = "real"
    live: str | None = None
    now: float = 0.0
    position: float = 0.0
    watched: float = 0.0
    session: int = 0
    is_paused: bool = False
    is_buffering: bool = False
    next_beat: float = 0.0

    def sighting(self, *, arrives: float | None = None) -> Sighting:
        position = {"epoch": 1.7e9 + self.position, "window": self.position % 1800, "edge": 0.0}.get(
            self.live or "", self.position
        )
        return Sighting(
            session_id=f"session-{self.session}",
            title_id="film",
            device_id="tv",
            day_number=20_000,
            at_ms=NOON + round((self.now if arrives is None else arrives) * 1000),
            position_ms=round(position * 1000),
            watched_ms=NO_CLAIM if self.claims == "none" else round(self.watched * 1000),
            is_paused=self.is_paused,
        )

    def run(self, seconds: float) -> Iterator[Sighting]:
        """Heartbeats every 30 s ± 10 %, as answers ask for."""
        until = self.now + seconds
        while self.now < until:
            if self.now >= self.next_beat:
                yield self.beat()
            self.now += 1
            if not self.is_paused and not self.is_buffering:
                self.position += self.speed
                self.watched += self.speed if self.claims == "media" else 1

    def beat(self) -> Sighting:
        self.next_beat = self.now + 30 * self.chance.uniform(0.9, 1.1)
        return self.sighting()

    def pause(self, seconds: float) -> Iterator[Sighting]:
        self.is_paused = True
        yield self.beat()
        yield from self.run(seconds)
        self.is_paused = False
        yield self.beat()

    def reopen(self) -> None:
        self.session += 1
        self.watched, self.next_beat = 0.0, self.now


def plain(screen: Screen) -> Iterator[Sighting]:
    for _ in range(20):
        yield from screen.run(screen.chance.uniform(60, 900))
        yield from screen.pause(screen.chance.uniform(1, 1200))


def seeking(screen: Screen) -> Iterator[Sighting]:
    for _ in range(150):
        yield from screen.run(screen.chance.uniform(5, 90))
        screen.position = max(0.0, screen.position + screen.chance.uniform(-900, 900))


def seeking_while_paused(screen: Screen) -> Iterator[Sighting]:
    """A button moves by ten or thirty seconds; somebody looks for a scene."""
    for _ in range(60):
        yield from screen.run(screen.chance.uniform(5, 60))
        screen.is_paused = True
        yield screen.beat()
        for _ in range(screen.chance.randint(1, 8)):
            screen.position = max(0.0, screen.position + screen.chance.choice((-30, -10, 10, 30)))
            yield from screen.run(screen.chance.uniform(1, 40))
        screen.is_paused = False


def buffering(screen: Screen) -> Iterator[Sighting]:
    """The film stands for seconds or for half an hour; heartbeats go on."""
    for _ in range(30):
        yield from screen.run(screen.chance.uniform(10, 300))
        screen.is_buffering = True
        yield from screen.run(screen.chance.choice((2, 5, 20, 120, 1800)))
        screen.is_buffering = False


def stalled_network(screen: Screen) -> Iterator[Sighting]:
    """Heartbeats arrive late, out of order, or not at all."""
    arriving: list[tuple[float, Sighting]] = []
    for sighting in screen.run(6 * HOUR):
        if screen.chance.random() < 0.2:
            continue
        late = screen.chance.choice((0, 0, 0.2, 3, 10, 25))
        arriving.append(
            (screen.now + late, msgspec.structs.replace(sighting, at_ms=NOON + round((screen.now + late) * 1000)))
        )
    for _, sighting in sorted(arriving, key=lambda pair: pair[0]):
        yield sighting


def silence_and_return(screen: Screen) -> Iterator[Sighting]:
    """The network is away while the film plays on its lease, and one heartbeat tells it all."""
    for _ in range(20):
        yield from screen.run(screen.chance.uniform(60, 600))
        for _ in screen.run(screen.chance.uniform(60, 290)):
            pass


def killed_app(screen: Screen) -> Iterator[Sighting]:
    for _ in range(30):
        yield from screen.run(screen.chance.uniform(10, 600))
        screen.now += screen.chance.uniform(1, 1800)
        if screen.chance.random() < 0.5:
            screen.position = max(0.0, screen.position - 10)
        screen.reopen()


def paused_at_each_beat(screen: Screen) -> Iterator[Sighting]:
    """A child plays with the pause button, and the player sends a heartbeat with each pause but not with each start."""
    for _ in range(100):
        screen.is_paused = True
        yield screen.beat()
        yield from screen.run(screen.chance.uniform(5, 20))
        screen.is_paused = False
        for _ in screen.run(screen.chance.uniform(2, 15)):
            pass


HONEST: tuple[Callable[[Screen], Iterator[Sighting]], ...] = (
    plain,
    seeking,
    seeking_while_paused,
    buffering,
    stalled_network,
    silence_and_return,
    killed_app,
    paused_at_each_beat,
)


@pytest.mark.parametrize("live", [None, "epoch", "window", "edge"])
@pytest.mark.parametrize("speed", [1.0, 1.5, 2.0, 0.5])
@pytest.mark.parametrize("lives", HONEST, ids=lambda lives: lives.__name__)
def test_an_honest_player_is_never_suspected(
    lives: Callable[[Screen], Iterator[Sighting]], speed: float, live: str | None
) -> None:
    for seed in SEEDS:
        for claims in ("real", "media", "none"):
            chance = random.Random(seed)  # noqa: S311  a simulation
            screen = Screen(chance, speed=speed, claims=claims, live=live)
            assert found(lives(screen)) == [], (seed, claims)


# --- cheats


def playing_as_paused(screen: Screen) -> Iterator[Sighting]:
    """The film plays, and every heartbeat says paused, so that no time is counted."""
    for sighting in screen.run(HOUR):
        yield msgspec.structs.replace(sighting, is_paused=True)


def clock_stopped(screen: Screen) -> Iterator[Sighting]:
    """After a while the player counts nothing more: it goes by a clock that was set back."""
    yield from screen.run(600)
    watched = screen.watched
    for sighting in screen.run(HOUR):
        yield msgspec.structs.replace(sighting, watched_ms=round(watched * 1000))


def clock_set_ahead(screen: Screen) -> Iterator[Sighting]:
    yield from screen.run(600)
    screen.watched += HOUR
    yield from screen.run(600)


def no_picture(screen: Screen) -> Iterator[Sighting]:
    """Heartbeats and claims go on, and the film stands still."""
    yield from screen.run(600)
    position = screen.position
    for sighting in screen.run(HOUR):
        yield msgspec.structs.replace(sighting, position_ms=round(position * 1000))


CHEATS: dict[Callable[[Screen], Iterator[Sighting]], TamperKind] = {
    playing_as_paused: TamperKind.PAUSED_WHILE_MOVING,
    clock_stopped: TamperKind.CLOCK_MOVED,
    clock_set_ahead: TamperKind.CLOCK_MOVED,
    no_picture: TamperKind.BEATS_WITHOUT_PLAYBACK,
}


@pytest.mark.parametrize("speed", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.__name__)
def test_every_cheat_is_found_once(cheat: Callable[[Screen], Iterator[Sighting]], speed: float) -> None:
    for seed in SEEDS:
        screen = Screen(random.Random(seed), speed=speed)  # noqa: S311  a simulation
        assert found(cheat(screen)) == [CHEATS[cheat]], seed


def test_a_player_without_claims_is_suspected_by_its_pauses_alone() -> None:
    assert found(playing_as_paused(Screen(random.Random(1), claims="none"))) == [  # noqa: S311  a simulation
        TamperKind.PAUSED_WHILE_MOVING
    ]
    assert found(no_picture(Screen(random.Random(1), claims="none"))) == []  # noqa: S311  it may buffer


# --- single rules


def beats(count: int, *, gap_ms: int = 30_000, move_ms: int = 30_000, is_paused: bool = False) -> list[Sighting]:
    return [
        Sighting(
            session_id="s",
            title_id="film",
            device_id="tv",
            day_number=20_000,
            at_ms=NOON + place * gap_ms,
            position_ms=place * move_ms,
            watched_ms=NO_CLAIM,
            is_paused=is_paused,
        )
        for place in range(count)
    ]


def test_paused_while_moving_takes_eight_gaps_and_two_minutes() -> None:
    assert found(iter(beats(8, is_paused=True))) == []
    assert found(iter(beats(9, is_paused=True))) == [TamperKind.PAUSED_WHILE_MOVING]
    assert found(iter(beats(24, gap_ms=5_000, move_ms=5_000, is_paused=True))) == []
    assert found(iter(beats(25, gap_ms=5_000, move_ms=5_000, is_paused=True))) == [TamperKind.PAUSED_WHILE_MOVING]


@pytest.mark.parametrize(("move_ms", "is_hint"), [(23_900, False), (24_000, True), (63_000, True), (63_100, False)])
def test_playback_speed_is_from_0_8_to_2_1(move_ms: int, is_hint: bool) -> None:
    assert bool(found(iter(beats(10, move_ms=move_ms, is_paused=True)))) is is_hint


def test_a_row_of_gaps_has_one_speed() -> None:
    changing = [
        msgspec.structs.replace(each, position_ms=each.position_ms + (place % 2) * 5_000)
        for place, each in enumerate(beats(40, is_paused=True))
    ]
    assert found(iter(changing)) == []


def test_heartbeats_within_five_seconds_are_seen_together() -> None:
    fast = beats(500, gap_ms=1_000, move_ms=1_000, is_paused=True)
    assert found(iter(fast)) == [TamperKind.PAUSED_WHILE_MOVING]


def test_a_gap_beyond_the_longest_says_nothing_and_breaks_the_row() -> None:
    assert found(iter(beats(20, gap_ms=MAX_GAP_MS + 1, move_ms=MAX_GAP_MS, is_paused=True))) == []
    assert found(iter(beats(20, gap_ms=MAX_GAP_MS, move_ms=MAX_GAP_MS, is_paused=True))) != []


def test_another_title_or_session_begins_anew() -> None:
    first = beats(8, is_paused=True)
    for name in ("title_id", "session_id"):
        other = [msgspec.structs.replace(each, **{name: "other"}) for each in beats(16, is_paused=True)[8:]]
        assert found(iter([*first, *other])) == []


def test_a_hint_is_told_again_on_the_next_day_only() -> None:
    today = beats(40, is_paused=True)
    tomorrow = [msgspec.structs.replace(each, day_number=20_001) for each in beats(80, is_paused=True)[40:]]
    assert found(iter([*today, *tomorrow])) == [TamperKind.PAUSED_WHILE_MOVING] * 2


def test_every_kind_has_words() -> None:
    assert set(TEXTS) == set(TamperKind)
