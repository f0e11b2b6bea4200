"""Scenarios about sessions: opening, ending, take-over, silence, pauses, titles."""

from app.conformance.acts import (
    CARTOON,
    DAILY,
    FILM,
    LESSON,
    NEVER_ISSUED,
    NOWHERE,
    TABLET,
    TV,
    Draft,
    balance,
    beat,
    child,
    eligible,
    end,
    pauses,
    settings,
    watches,
)


def sessions() -> tuple[Draft, ...]:
    return (
        Draft(
            name="open-continue-end",
            about="The opening beat credits nothing; every later beat, and the end, credits the time since the last.",
            live=True,
            child=DAILY,
            acts=(beat(0), beat(2, "$s1"), beat(4, "$s1"), end(5, "$s1"), balance(5)),
        ),
        Draft(
            name="ten-minutes",
            about="Beats each 30 s add up to the time that passed.",
            child=child(),
            acts=(*watches(range(30, 601, 30)), balance(600)),
        ),
        Draft(
            name="repeated-beat",
            about="A beat sent again at the same instant, or shortly after, adds only the time that passed in between.",
            child=child(),
            acts=(beat(0), beat(30, "$s1"), beat(30, "$s1"), beat(30.25, "$s1"), beat(60, "$s1")),
        ),
        Draft(
            name="end-repeated",
            about="Ending a session again, later, gives the first answer. A beat on it is refused, whatever it claims.",
            live=True,
            child=DAILY,
            acts=(
                beat(0),
                end(2, "$s1"),
                end(3, "$s1"),
                beat(4, "$s1"),
                beat(5, "$s1", watched_seconds=5),
                balance(5),
            ),
        ),
        Draft(
            name="end-of-an-earlier-session",
            about="The end of a session may be told, or told again, after another has begun: the answer is that "
            "session's, and the running one goes on.",
            live=True,
            child=DAILY,
            acts=(
                beat(0),
                end(2, "$s1"),
                beat(3),
                end(4, "$s1"),
                beat(4, on=TABLET),
                end(5, "$s2"),
                beat(6, "$s3", on=TABLET),
            ),
        ),
        Draft(
            name="open-repeated",
            about="When the answer to an opening beat is lost, the player opens again. The first session is "
            "superseded by the same device. The time between the two opening beats is counted, as the first session's.",
            live=True,
            child=DAILY,
            acts=(beat(0), beat(2), beat(4, "$s2"), beat(4, "$s1"), balance(4)),
        ),
        Draft(
            name="take-over",
            about="Another device opens a session: the running one ends at once. Its device learns it at its next "
            "beat, and when and by what kind of device; nothing it claims brings the session back.",
            live=True,
            child=DAILY,
            acts=(
                beat(0),
                beat(2, "$s1"),
                beat(3, on=TABLET),
                beat(5, "$s2", on=TABLET),
                beat(5, "$s1"),
                beat(6, "$s1", watched_seconds=6),
                beat(7, "$s2", on=TABLET),
            ),
        ),
        Draft(
            name="take-over-late",
            about="The session that ends is settled first: a gap of up to five minutes before the take-over counts.",
            child=child(),
            acts=(beat(0), beat(30, "$s1"), beat(320, on=TABLET), beat(330, "$s1", watched_seconds=330), balance(330)),
        ),
        Draft(
            name="fought-over",
            about="Two devices that open again after each refusal add up to the time that passed.",
            child=child(),
            acts=(
                *(
                    act
                    for turn in range(6)
                    for act in (
                        beat(300 * turn, on=TV if turn % 2 else TABLET),
                        *((beat(300 * turn + 1, f"$s{turn}", watched_seconds=300),) if turn else ()),
                    )
                ),
                end(1501, "$s6"),
                balance(1501),
            ),
        ),
        Draft(
            name="abandoned",
            about="A session that is opened and left alone costs nothing twice a day. From the third on each is "
            "charged its lease: five minutes, or what remains.",
            child=child(15, 15),
            acts=(*(beat(320 * turn) for turn in range(8)), balance(2240)),
        ),
        Draft(
            name="taken-back",
            about="The device that lost opens again: now the other one is told.",
            live=True,
            child=DAILY,
            acts=(beat(0), beat(1, on=TABLET), beat(3), beat(4, "$s2", on=TABLET), beat(5, "$s3")),
        ),
        Draft(
            name="never-issued",
            about="A session id that was never issued to this profile is refused.",
            live=True,
            child=DAILY,
            acts=(beat(0, NEVER_ISSUED), end(0, NEVER_ISSUED)),
        ),
    )


def silence() -> tuple[Draft, ...]:
    gaps = tuple(
        Draft(
            name=f"gap-{gap:.3f}",
            about=about,
            child=child(),
            acts=(beat(0), beat(30, "$s1"), beat(30 + gap, "$s1"), balance(30 + gap)),
        )
        for gap, about in (
            (299.999, "A gap of less than five minutes counts whole."),
            (300.0, "A gap of five minutes counts whole."),
            (
                300.001,
                "After more than five minutes of silence the session has ended at its last beat; nothing is credited.",
            ),
        )
    )
    return (
        *gaps,
        Draft(
            name="silence-then-open",
            about="A session that fell silent is over: its player opens a new one. The silence is not credited.",
            child=child(),
            acts=(
                beat(0),
                beat(30, "$s1"),
                beat(631, "$s1"),
                beat(631),
                beat(661, "$s2"),
                beat(661, "$s1"),
                end(662, "$s2"),
            ),
        ),
        Draft(
            name="end-after-silence",
            about="A session that fell silent ended at its last beat, also when its end is told later.",
            child=child(),
            acts=(beat(0), beat(30, "$s1"), end(1000, "$s1"), end(1001, "$s1")),
        ),
        Draft(
            name="revival",
            about="watched_seconds revives a session after silence: what was watched since the last beat is credited.",
            child=child(),
            acts=(
                beat(0),
                beat(30, "$s1", watched_seconds=30),
                beat(930, "$s1", watched_seconds=880),
                beat(960, "$s1", watched_seconds=910),
            ),
        ),
        Draft(
            name="revival-capped",
            about="A claim never credits more than the time that passed, nor less than nothing.",
            child=child(),
            acts=(
                beat(0),
                beat(30, "$s1", watched_seconds=30),
                beat(930, "$s1", watched_seconds=50_000),
                beat(1530, "$s1", watched_seconds=10),
            ),
        ),
        Draft(
            name="revival-by-end",
            about="The end of a session may carry watched_seconds, too.",
            child=child(),
            acts=(beat(0), beat(30, "$s1", watched_seconds=30), end(930, "$s1", watched_seconds=600), balance(931)),
        ),
        Draft(
            name="claim-without-silence",
            about="Where beats arrive in time, the clock counts and the claim does not.",
            child=child(),
            acts=(beat(0), beat(30, "$s1", watched_seconds=12), beat(60, "$s1", watched_seconds=5000)),
        ),
        Draft(
            name="revival-after-take-over",
            about="A silent session is not revived once another device has opened one.",
            child=child(),
            acts=(
                beat(0),
                beat(30, "$s1", watched_seconds=30),
                beat(600, on=TABLET),
                beat(630, "$s1", watched_seconds=630),
                beat(630, "$s2", on=TABLET),
            ),
        ),
    )


def pausing() -> tuple[Draft, ...]:
    return (
        Draft(
            name="pause-within-grace",
            about="The first five minutes of a pause count.",
            live=True,
            child=DAILY,
            acts=(
                beat(0),
                beat(1, "$s1", is_paused=True),
                beat(3, "$s1", is_paused=True),
                beat(4, "$s1"),
                beat(5, "$s1"),
            ),
        ),
        Draft(
            name="pause-grace",
            about="Of a long pause the first five minutes count and the rest does not; after the resume time counts "
            "again.",
            child=child(),
            acts=(
                beat(0),
                beat(30, "$s1", is_paused=True),
                *pauses((150, 270, 329.999, 330, 330.001, 450, 570), "$s1"),
                beat(600, "$s1"),
                beat(630, "$s1"),
            ),
        ),
        Draft(
            name="pause-anew",
            about="Each pause has its own grace.",
            child=child(),
            acts=(
                beat(0),
                *pauses((30, 230, 430), "$s1"),
                beat(460, "$s1"),
                *pauses((490, 690, 890), "$s1"),
                beat(920, "$s1"),
            ),
        ),
        Draft(
            name="pause-lost-beats",
            about="Beats that are lost during a pause change nothing, as long as the silence is not longer than "
            "five minutes.",
            child=child(),
            acts=(
                beat(0),
                beat(30, "$s1", is_paused=True),
                beat(230, "$s1", is_paused=True),
                beat(530, "$s1", is_paused=True),
                beat(560, "$s1"),
            ),
        ),
        Draft(
            name="pause-then-silence",
            about="A paused player that falls silent is closed like any other.",
            child=child(),
            acts=(beat(0), beat(30, "$s1", is_paused=True), beat(330.001, "$s1"), balance(331)),
        ),
    )


def titles() -> tuple[Draft, ...]:
    return (
        Draft(
            name="title-change",
            about="Another title in a running session opens a new session; the time up to then belongs to the old "
            "one. A beat on the old session is refused.",
            live=True,
            child=DAILY,
            acts=(
                beat(0),
                beat(2, "$s1", title=CARTOON),
                beat(4, "$s2", title=CARTOON),
                beat(5, "$s1"),
                balance(5),
            ),
        ),
        Draft(
            name="title-change-answer-lost",
            about="When the answer to a change of title is lost, the same beat again gets the session that was opened.",
            live=True,
            child=DAILY,
            acts=(
                beat(0),
                beat(2, "$s1", title=CARTOON),
                beat(3, "$s1", title=CARTOON),
                beat(4, "$s2", title=CARTOON),
            ),
        ),
        Draft(
            name="title-unknown",
            about="A title that the catalogue does not hold cannot open a session. A running one may change to it, and "
            "it counts as not educational.",
            live=True,
            child=DAILY,
            acts=(beat(0, title=NOWHERE), beat(1), beat(2, "$s1", title=NOWHERE), beat(4, "$s2", title=NOWHERE)),
        ),
        Draft(
            name="educational",
            about="An educational title is counted apart and not deducted; nothing stops it.",
            live=True,
            child=DAILY,
            acts=(
                eligible(0, LESSON),
                beat(0, title=LESSON),
                beat(2, "$s1", title=LESSON),
                balance(2),
                beat(3, "$s1", title=FILM),
                beat(5, "$s2", title=FILM),
                balance(5),
            ),
        ),
        Draft(
            name="educational-counts",
            about="Where a parent took the exemption away, an educational title is deducted like any other.",
            live=True,
            child=child(120, 120, exempt=False),
            acts=(beat(0, title=LESSON), beat(2, "$s1", title=LESSON), balance(2)),
        ),
        Draft(
            name="educational-toggled",
            about="A change of the exemption acts from the next beat on, and on the time since the last beat with it.",
            live=True,
            child=DAILY,
            acts=(
                beat(0, title=LESSON),
                beat(2, "$s1", title=LESSON),
                settings(3, educational_exempt=False),
                beat(4, "$s1", title=LESSON),
                settings(5, educational_exempt=True),
                beat(6, "$s1", title=LESSON),
                balance(6),
            ),
        ),
        Draft(
            name="educational-when-blocked",
            about="With the limit used up an educational title still plays, and any other is blocked.",
            child=child(15),
            acts=(
                *watches((300, 600, 900)),
                eligible(901, LESSON),
                eligible(901, FILM),
                beat(902, title=LESSON),
                beat(932, "$s2", title=LESSON),
                beat(933, "$s2", title=FILM),
                balance(933),
            ),
        ),
    )
