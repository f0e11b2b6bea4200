"""Scenarios about limits, changes by parents during playback, offline playback, and adults."""

from collections.abc import Iterable, Iterator

from app.conformance.acts import (
    ADULT,
    CARTOON,
    DAILY,
    LESSON,
    NEVER_ISSUED,
    TABLET,
    Act,
    Draft,
    balance,
    beat,
    beats,
    child,
    eligible,
    end,
    grant,
    pauses,
    revoke,
    settings,
    sync,
    watches,
)

_LATER = {"days": ["tue", "wed"], "from": "15:00", "until": "18:30"}
_FINISHING = child(15, finish_minutes=10)
_WEEK = {"mon": 30, "tue": 45, "wed": 60, "thu": 75, "fri": 90, "sat": 180, "sun": 120}


def _titles_left(instants: Iterable[float], *, ends: float) -> Iterator[Act]:
    """Beats of a title that ends at an instant, as its player tells. The first one of a scenario opens the session."""
    for at in instants:
        yield beat(at, None if at == 0 else "$s1", title_remaining_seconds=max(0, ends - at))


def limits() -> tuple[Draft, ...]:
    return (
        Draft(
            name="thresholds",
            about="A beat exactly on a threshold warns, one a millisecond before does not yet; next_beat_in falls "
            "on each threshold and on the end.",
            child=child(30),
            acts=(
                *watches((300, 600, 880, 899.999, 900)),
                *beats((1200, 1480, 1499.999, 1500), "$s1"),
                *beats((1780, 1799.999, 1800), "$s1"),
            ),
        ),
        Draft(
            name="own-thresholds",
            about="A parent chooses the thresholds, and enforcement is named after them.",
            child=child(60, warnings=(45, 1)),
            acts=(
                *watches((300, 600, 900, 1200)),
                *beats(range(1500, 3301, 300), "$s1"),
                *beats((3539, 3540, 3600), "$s1"),
            ),
        ),
        Draft(
            name="no-thresholds",
            about="Without thresholds it is allowed until it is blocked.",
            child=child(15, warnings=()),
            acts=watches((300, 600, 870, 899.999, 900)),
        ),
        Draft(
            name="blocked",
            about="Once the limit is used up every beat says blocked. What is watched all the same is kept apart as "
            "overrun. A session may still be opened, so that a player need not ask first.",
            child=child(15),
            acts=(
                *watches((300, 600, 890, 900)),
                eligible(900),
                beat(930, "$s1"),
                balance(930),
                beat(940),
                beat(945, "$s2"),
                balance(945),
            ),
        ),
        Draft(
            name="shadow",
            about="Where limits are counted and not enforced (mode shadow), every answer says allowed and nothing that "
            "limits the player, and would_be says what it would be: warnings, then blocked.",
            child=child(30, enforcement="shadow"),
            acts=(
                beat(0),
                balance(0),
                *beats((300, 600, 880, 900, 1200, 1500, 1790), "$s1"),
                eligible(1790),
                *beats((1800, 1830), "$s1"),
                balance(1830),
                eligible(1830),
                eligible(1830, LESSON),
                grant(1840, 30),
                beat(1860, "$s1"),
                balance(1860),
                end(1870, "$s1"),
            ),
        ),
        Draft(
            name="not-enforced",
            about="With mode off time is counted, nothing is decided, and no answer says what it would be.",
            child=child(15, enforcement="off"),
            acts=(*watches((300, 600, 890, 900, 930)), balance(930), eligible(930)),
        ),
        Draft(
            name="overshoot",
            about="A beat that comes late: the limit takes what it has left, the rest is overrun.",
            child=child(15),
            acts=(*watches((300, 600, 880, 960)), balance(960)),
        ),
        Draft(
            name="daily-limits",
            about="Each day of the week has its own limit, which takes the place of the limits of weekdays and weekends"
            " until it is taken away. A day may be without one.",
            child=child(120),
            acts=(
                beat(0),
                settings(10, daily_limits=_WEEK),
                beat(30, "$s1"),
                balance(30),
                settings(40, weekday_limit_minutes=60),
                beat(60, "$s1"),
                settings(70, daily_limits=_WEEK | {"mon": None}),
                beat(90, "$s1"),
                balance(90),
                settings(100, daily_limits=None),
                beat(120, "$s1"),
            ),
        ),
        Draft(
            name="holiday",
            about="A holiday counts as weekend: it has the limit of the weekend, or of the first weekend day where "
            "each day has its own.",
            child=child(15, 60),
            acts=(
                beat(0),
                settings(10, holidays=[{"first_date": "2026-02-28", "last_date": "2026-03-02"}]),
                beat(30, "$s1"),
                settings(40, daily_limits=_WEEK),
                beat(60, "$s1"),
                settings(70, holidays=[{"first_date": "2026-03-03", "last_date": "2026-03-03"}]),
                beat(90, "$s1"),
                settings(100, holidays=None, daily_limits=None),
                beat(120, "$s1"),
            ),
        ),
        Draft(
            name="weekly-limit",
            about="The earlier days of a week leave less of a day's limit. Extra time is on top of both limits.",
            child=child(30, 30),
            acts=(
                settings(0, weekly_limit_minutes=45),
                *watches(range(300, 1801, 300)),
                end(1810, "$s1"),
                balance(1810),
                eligible(86_400),
                beat(86_400),
                *beats((86_700, 87_000, 87_300, 87_330), "$s2"),
                balance(87_330),
                eligible(87_330),
                grant(87_340, 15),
                beat(87_360, "$s2"),
                balance(87_360),
                settings(87_370, weekly_limit_minutes=None),
                balance(87_380),
            ),
        ),
        Draft(
            name="finish-title",
            about="A title that ends soon after the limit may be finished. What that takes is borrowed: the next day "
            "has so much less, and the day after it owes nothing.",
            child=_FINISHING,
            acts=(
                *_titles_left((0, 300, 600, 890, 900, 930), ends=1200),
                balance(930),
                eligible(930),
                *_titles_left((1199, 1200, 1230), ends=1200),
                balance(1230),
                eligible(1230),
                eligible(86_400),
                beat(86_400),
                *beats((86_700, 86_999, 87_000), "$s2"),
                balance(87_000),
                eligible(172_800),
            ),
        ),
        Draft(
            name="finish-title-too-long",
            about="A title that ends too late after the limit is not finished, and neither is one of which the player "
            "tells nothing.",
            child=_FINISHING,
            acts=(
                *_titles_left((0, 300), ends=1501),
                *_titles_left((301,), ends=1500),
                *beats((302, 600, 899, 900), "$s1"),
                *_titles_left((901,), ends=1000),
                balance(901),
            ),
        ),
        Draft(
            name="finish-title-once",
            about="Once a day: another title is not finished, whoever gives extra time, and neither is the same one in "
            "another session.",
            child=_FINISHING,
            acts=(
                *_titles_left((0, 300, 600, 890, 960), ends=1200),
                beat(960, "$s1", title=CARTOON, title_remaining_seconds=100),
                balance(960),
                grant(960, 15),
                beat(990, "$s2", title=CARTOON, title_remaining_seconds=900),
                beat(991, title_remaining_seconds=1000),
                *beats((1200, 1500, 1800, 1860), "$s3"),
                balance(1860),
            ),
        ),
        Draft(
            name="windows",
            about="Outside of the windows nothing plays, whatever is left. A window that closes warns as a limit does; "
            "extra time wins for its minutes from its instant on.",
            child=child(120),
            acts=(
                settings(0, windows=[{"days": ["mon"], "from": "11:00", "until": "12:20"}, _LATER]),
                beat(10),
                *beats((300, 600), "$s1"),
                eligible(600),
                *beats((899.999, 1199.999, 1200, 1230), "$s1"),
                balance(1230),
                eligible(1230),
                eligible(1230, LESSON),
                grant(1260, 15),
                beat(1290),
                balance(1290),
                beat(1350, "$s2"),
                revoke(1360, "$g1"),
                beat(1380, "$s2"),
                settings(1400, windows=None),
                beat(1410, "$s2"),
            ),
        ),
        Draft(
            name="limit-before-a-window",
            about="Where the limit ends playback before a window closes, the answer names both instants: a player "
            "that loses its connection stops at the earlier one, however long it was paused meanwhile.",
            child=child(15),
            acts=(
                settings(0, windows=[{"days": ["mon"], "from": "11:00", "until": "12:30"}, _LATER]),
                beat(10),
                *beats((300, 600), "$s1"),
                balance(600),
                grant(610, 60),
                beat(630, "$s1"),
            ),
        ),
        Draft(
            name="windows-and-exempt-titles",
            about="A window closes for exempt titles too, and for a child without a limit; over midnight it is of the "
            "day on which it begins.",
            child=child(None, None),
            starts_at="2026-03-02T23:50:00.000Z",
            acts=(
                settings(0, windows=[{"days": ["mon"], "from": "20:00", "until": "00:05"}, _LATER]),
                beat(0, title=LESSON),
                *(beat(at, "$s1", title=LESSON) for at in (300, 600, 899, 900)),
                balance(900),
            ),
        ),
        Draft(
            name="breaks",
            about="After so long without a pause of a given length such a pause is due, whatever is left of the limit. "
            "It warns as a limit does, extra time does not end it, and what is played meanwhile makes it begin anew.",
            child=child(120),
            acts=(
                settings(0, break_after_minutes=15, break_minutes=5),
                *watches((300, 599.999, 600, 880, 900)),
                eligible(900),
                eligible(900, LESSON),
                balance(900),
                grant(910, 30),
                beat(930, "$s1"),
                *pauses((930, 1110, 1229.999), "$s1"),
                balance(1229.999),
                *pauses((1230,), "$s1"),
                beat(1240, "$s1"),
                *beats((1540, 1800), "$s1"),
                balance(1800),
                settings(1810, break_after_minutes=None, break_minutes=None),
                beat(1830, "$s1"),
                balance(1830),
            ),
        ),
        Draft(
            name="breaks-and-pauses",
            about="A pause that is too short is none, though its time up to the grace is used. Titles, devices and "
            "sessions change nothing, and exempt titles need breaks too.",
            child=child(None, None),
            acts=(
                settings(0, break_after_minutes=15, break_minutes=10),
                *watches((240,)),
                *pauses((240, 500, 800), "$s1"),
                *beats((830, 1000), "$s1"),
                beat(1030, "$s1", title=LESSON),
                beat(1100, on=TABLET, title=LESSON),
                beat(1300, "$s3", on=TABLET, title=LESSON),
                end(1310, "$s3"),
                eligible(1310, LESSON),
                balance(1909.999),
                eligible(1910),
                beat(1920),
                beat(1950, "$s4"),
                balance(1950),
            ),
        ),
        Draft(
            name="unlimited",
            about="Without limits nothing remains and nothing stops; time is counted all the same.",
            live=True,
            child=child(None, None),
            acts=(eligible(0), beat(0), beat(2, "$s1"), balance(2)),
        ),
    )


def parents() -> tuple[Draft, ...]:
    used_up = watches((300, 600, 900, 930))
    return (
        Draft(
            name="grant",
            about="Fifteen minutes more are in the next answer.",
            live=True,
            child=DAILY,
            acts=(beat(0), beat(1, "$s1"), grant(2, 15), beat(3, "$s1"), balance(3)),
        ),
        Draft(
            name="grant-when-blocked",
            about="After an overrun fifteen minutes more are still fifteen minutes.",
            child=child(15),
            acts=(
                *used_up,
                end(940, "$s1"),
                grant(1000, 15),
                eligible(1000),
                beat(1001),
                *beats((1301, 1601, 1900.999, 1901), "$s2"),
                balance(1901),
            ),
        ),
        Draft(
            name="grant-revoked",
            about="A grant that is taken back takes its minutes along; what was used stays used.",
            live=True,
            child=DAILY,
            acts=(beat(0), grant(1, 30), beat(2, "$s1"), revoke(3, "$g1"), beat(4, "$s1"), balance(4)),
        ),
        Draft(
            name="grant-unlimited",
            about="A parent may lift the limit until the day ends.",
            live=True,
            child=DAILY,
            acts=(beat(0), grant(1, None), beat(2, "$s1"), balance(2), eligible(2)),
        ),
        Draft(
            name="limit-lowered",
            about="A new limit is in the next answer, and in its stop_at.",
            live=True,
            child=DAILY,
            acts=(
                beat(0),
                beat(1, "$s1"),
                settings(2, weekday_limit_minutes=15, weekend_limit_minutes=15),
                beat(3, "$s1"),
                balance(3),
            ),
        ),
        Draft(
            name="limit-lowered-below-used",
            about="A limit below what is used blocks at once and takes nothing back; a higher one frees the rest.",
            child=child(60),
            acts=(
                *watches((300, 600, 900, 1200)),
                settings(1210, weekday_limit_minutes=15),
                beat(1230, "$s1"),
                balance(1230),
                settings(1240, weekday_limit_minutes=30),
                beat(1260, "$s1"),
                balance(1260),
            ),
        ),
        Draft(
            name="grant-after-limit-lowered",
            about="A grant gives its minutes from then on: what the child is over its limit is covered. That goes "
            "with the grant.",
            child=child(60),
            acts=(
                *watches((300, 600, 900, 1200)),
                settings(1210, weekday_limit_minutes=15, weekend_limit_minutes=15),
                beat(1220, "$s1"),
                balance(1220),
                grant(1220, 15),
                balance(1220),
                grant(1230, None),
                balance(1230),
                revoke(1240, "$g2"),
                beat(1250, "$s1"),
                revoke(1260, "$g1"),
                balance(1260),
            ),
        ),
        Draft(
            name="limit-removed",
            about="A limit of null: unlimited from the next answer on.",
            live=True,
            child=DAILY,
            acts=(
                beat(0),
                settings(1, weekday_limit_minutes=None, weekend_limit_minutes=None),
                beat(2, "$s1"),
                settings(3, weekday_limit_minutes=60, weekend_limit_minutes=60),
                beat(4, "$s1"),
            ),
        ),
    )


def offline() -> tuple[Draft, ...]:
    all_but_six_seconds = 15 * 60 - 6
    return (
        Draft(
            name="offline-sync",
            about="What a device played without a connection is credited once; a repeat of the batch gets the same "
            "answer. Stretches that overlap are counted once.",
            live=True,
            child=DAILY,
            acts=(
                sync(0, (-600, -300), (-400, -200)),
                sync(1, (-600, -300), (-400, -200)),
                sync(2, (-700, -200), batch="batch-2"),
                beat(2),
                beat(4, "$s1"),
                balance(4),
            ),
        ),
        Draft(
            name="offline-sync-educational",
            about="Offline, too, educational titles are counted apart.",
            live=True,
            child=DAILY,
            acts=(sync(0, (-600, -300), title=LESSON), beat(1), balance(1)),
        ),
        Draft(
            name="offline-sync-in-a-pause",
            about="What a device played without a connection while another was paused, beyond the five minutes that "
            "count, is credited.",
            child=DAILY,
            acts=(
                *watches(range(30, 120, 30)),
                *pauses(range(120, 3901, 30), "$s1"),
                sync(3900, (600, 3000)),
                balance(3900),
            ),
        ),
        Draft(
            name="offline-sync-in-silence",
            about="So is what it played in silence that nobody claimed; what was claimed is not credited again.",
            child=DAILY,
            acts=(
                beat(0),
                beat(3600, "$s1", watched_seconds=600),
                sync(3600, (300, 1800)),
                balance(3600),
            ),
        ),
        Draft(
            name="run-out",
            about="The last seconds of a limit, and the end of it: blocked, what was watched beyond is overrun. "
            "Fifteen minutes more are fifteen minutes, to the player that ended its session meanwhile.",
            live=True,
            child=child(15, 15),
            acts=(
                sync(0, (-all_but_six_seconds, 0)),
                beat(0),
                beat(2, "$s1"),
                beat(9, "$s1"),
                eligible(9),
                end(9, "$s1"),
                balance(9),
                grant(10, 15),
                eligible(10),
                beat(10),
                beat(12, "$s2"),
                balance(12),
            ),
        ),
    )


def adults() -> tuple[Draft, ...]:
    return (
        Draft(
            name="adult",
            about="Adults are unlimited. Nothing of them is counted: all that the end of a session tells, each time, is"
            " when it began.",
            live=True,
            child=ADULT,
            acts=(
                eligible(0),
                beat(0),
                beat(1, "$s1"),
                beat(2, NEVER_ISSUED),
                balance(2),
                end(3, "$s1"),
                end(4, "$s1"),
            ),
        ),
    )
