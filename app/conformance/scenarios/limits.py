"""Limits, what parents change while somebody watches, playback without a connection, adults."""

from app.conformance.acts import (
    ADULT,
    DAILY,
    LESSON,
    NEVER_ISSUED,
    Draft,
    balance,
    beat,
    beats,
    child,
    eligible,
    end,
    grant,
    revoke,
    settings,
    sync,
)


def limits() -> tuple[Draft, ...]:
    return (
        Draft(
            name="thresholds",
            about="A beat exactly on a threshold warns, one a millisecond before does not yet; next_beat_in falls "
            "on each threshold and on the end.",
            child=child(30),
            acts=(
                beat(0),
                *beats((300, 600, 880, 899.999, 900), "$s1"),
                *beats((1200, 1480, 1499.999, 1500), "$s1"),
                *beats((1780, 1799.999, 1800), "$s1"),
            ),
        ),
        Draft(
            name="own-thresholds",
            about="A parent chooses the thresholds, and enforcement is named after them.",
            child=child(60, warnings=(45, 1)),
            acts=(
                beat(0),
                *beats((300, 600, 900, 1200), "$s1"),
                *beats(range(1500, 3301, 300), "$s1"),
                *beats((3539, 3540, 3600), "$s1"),
            ),
        ),
        Draft(
            name="no-thresholds",
            about="Without thresholds it is allowed until it is blocked.",
            child=child(15, warnings=()),
            acts=(beat(0), *beats((300, 600, 870, 899.999, 900), "$s1")),
        ),
        Draft(
            name="blocked",
            about="Once the limit is used up every beat says blocked. What is watched all the same is kept apart as "
            "overrun. A session may still be opened, so that a player need not ask first.",
            child=child(15),
            acts=(
                beat(0),
                *beats((300, 600, 890, 900), "$s1"),
                eligible(900),
                beat(930, "$s1"),
                balance(930),
                beat(940),
                beat(945, "$s2"),
                balance(945),
            ),
        ),
        Draft(
            name="overshoot",
            about="A beat that comes late: the limit takes what it has left, the rest is overrun.",
            child=child(15),
            acts=(beat(0), *beats((300, 600, 880, 960), "$s1"), balance(960)),
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
    used_up = (beat(0), *beats((300, 600, 900, 930), "$s1"))
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
                beat(0),
                *beats((300, 600, 900, 1200), "$s1"),
                settings(1210, weekday_limit_minutes=15),
                beat(1230, "$s1"),
                balance(1230),
                settings(1240, weekday_limit_minutes=30),
                beat(1260, "$s1"),
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
