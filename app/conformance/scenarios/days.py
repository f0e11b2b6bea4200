"""Scenarios about viewing days: the reset, and nights with a clock change."""

from app.conformance.acts import (
    Draft,
    balance,
    beat,
    child,
    eligible,
    end,
    grant,
    settings,
    watches,
)


def days() -> tuple[Draft, ...]:
    oslo = child(120, 180, timezone="Europe/Oslo")
    around_reset = (balance(0), beat(0), beat(30, "$s1"), beat(60, "$s1"), beat(90, "$s1"), balance(90))
    return (
        Draft(
            name="reset-split",
            about="Time across the reset is split between both days; the session goes on, and its end tells the sum.",
            child=child(),
            starts_at="2026-03-03T05:59:20.000Z",
            acts=(beat(0), beat(30, "$s1"), beat(60, "$s1"), balance(60), end(90, "$s1"), balance(90)),
        ),
        Draft(
            name="reset-unblocks",
            about="Who is blocked may watch again after the reset; a beat falls on it.",
            child=child(15),
            starts_at="2026-03-03T05:44:00.000Z",
            acts=(*watches((300, 600, 900, 940, 960)), eligible(961), balance(961)),
        ),
        Draft(
            name="stop-after-reset",
            about="Playback that reaches the reset goes on with the next day's limit: stop_at says so. Friday night "
            "is still Friday; on Saturday morning the weekend's limit begins.",
            child=child(60, 30),
            starts_at="2026-03-07T05:30:00.000Z",
            acts=(*watches((300, 600, 900, 1200, 1500, 1790, 1800, 1810)), balance(1810)),
        ),
        Draft(
            name="dst-short-day",
            about="Oslo, the night in March that lacks an hour: Saturday's day lasts 23 h, and Sunday's begins at "
            "04:00 UTC.",
            child=oslo,
            starts_at="2026-03-29T03:59:20.000Z",
            acts=around_reset,
        ),
        Draft(
            name="dst-long-day",
            about="Oslo, the night in October with an hour twice: Saturday's day lasts 25 h, and Sunday's begins at "
            "05:00 UTC.",
            child=oslo,
            starts_at="2026-10-25T04:59:20.000Z",
            acts=around_reset,
        ),
        Draft(
            name="dst-reset-in-the-gap",
            about="A reset at 02:00, which does not exist that night in Oslo, acts at the first instant after the gap.",
            child=child(timezone="Europe/Oslo", reset_hour=2),
            starts_at="2026-03-29T00:59:20.000Z",
            acts=around_reset,
        ),
        Draft(
            name="dst-reset-twice",
            about="A reset at 02:00, which occurs twice that night in Oslo, acts at the first.",
            child=child(timezone="Europe/Oslo", reset_hour=2),
            starts_at="2026-10-24T23:59:20.000Z",
            acts=around_reset,
        ),
        Draft(
            name="reset-hour-changed",
            about="Another reset hour never touches the running day. The day after it ends at the first such hour "
            "that is at least 12 h later.",
            child=child(),
            starts_at="2026-03-03T05:58:00.000Z",
            acts=(
                beat(0),
                settings(30, reset_hour=12),
                beat(60, "$s1"),
                beat(119.999, "$s1"),
                beat(120, "$s1"),
                balance(120),
            ),
        ),
        Draft(
            name="zone-changed",
            about="Another zone never touches the running day either. What follows leads over to the resets of the new "
            "zone: a day of 35 h, then one of 24 h.",
            child=child(),
            starts_at="2026-03-03T05:59:00.000Z",
            acts=(
                beat(0),
                settings(30, timezone="Pacific/Auckland"),
                beat(45, "$s1"),
                beat(60, "$s1"),
                balance(60),
                balance(60 + 35 * 3600),
            ),
        ),
        Draft(
            name="revival-over-the-reset",
            about="What is claimed after silence lies right after the last beat: the old day gets its part first.",
            child=child(),
            starts_at="2026-03-03T05:40:00.000Z",
            acts=(
                beat(0),
                beat(300, "$s1", watched_seconds=300),
                beat(3300, "$s1", watched_seconds=2000),
                balance(3300),
                end(3300, "$s1"),
            ),
        ),
        Draft(
            name="grant-ends-with-its-day",
            about="Extra time is of the day on which it was given: unlimited until the reset, the ordinary limit "
            "after it.",
            child=child(15),
            starts_at="2026-03-03T05:55:00.000Z",
            acts=(beat(0), grant(30, None), beat(60, "$s1"), beat(300, "$s1"), beat(330, "$s1"), balance(330)),
        ),
        Draft(
            name="balance-on-a-new-day",
            about="The balance of a new day is empty before anybody watched.",
            child=child(),
            starts_at="2026-03-03T05:50:00.000Z",
            acts=(beat(0), beat(300, "$s1"), end(400, "$s1"), balance(400), balance(600), eligible(600)),
        ),
    )
