"""Scenarios about children who watch together."""

from app.conformance.acts import CARTOON, DAILY, LESSON, TABLET, Draft, balance, beat, child, co_viewer, end
from app.conformance.document import sibling

SECOND, THIRD = sibling(2), sibling(3)


def together() -> tuple[Draft, ...]:
    return (
        Draft(
            name="together",
            about="A heartbeat with a co-viewer counts for both children, each on a session of its own. Ending one "
            "session ends the other with it.",
            live=True,
            child=DAILY,
            siblings=(child(60, 60),),
            acts=(
                beat(0, co_viewers=[co_viewer(SECOND)]),
                beat(2, "$s1", co_viewers=[co_viewer(SECOND, "$s2")]),
                beat(4, "$s1", co_viewers=[co_viewer(SECOND, "$s2")]),
                end(5, "$s1", co_viewers=[{"session_id": "$s2"}]),
                balance(5),
                balance(5, SECOND),
            ),
        ),
        Draft(
            name="together-joins-and-leaves",
            about="A child that joins later is charged from then on. One that is no longer named is charged no more.",
            live=True,
            child=DAILY,
            siblings=(DAILY,),
            acts=(
                beat(0),
                beat(2, "$s1", co_viewers=[co_viewer(SECOND)]),
                beat(4, "$s1", co_viewers=[co_viewer(SECOND, "$s2")]),
                beat(5, "$s1"),
                balance(5),
                balance(5, SECOND),
            ),
        ),
        Draft(
            name="together-strictest-decides",
            about="Playback ends for all when the time of one is over. Each child keeps its own remaining time.",
            child=child(120),
            siblings=(child(15), child(None, None)),
            acts=(
                beat(0, co_viewers=[co_viewer(SECOND), co_viewer(THIRD)]),
                *(
                    beat(at, "$s1", co_viewers=[co_viewer(SECOND, "$s2"), co_viewer(THIRD, "$s3")])
                    for at in (300, 600, 900)
                ),
                balance(901),
                balance(901, SECOND),
            ),
        ),
        Draft(
            name="together-own-days",
            about="Zone, reset hour and exemption are each child's own.",
            child=child(120, reset_hour=13),
            siblings=(child(120, reset_hour=6, timezone="Etc/GMT-6", exempt=False),),
            acts=(
                beat(3400, title=LESSON, co_viewers=[co_viewer(SECOND)]),
                beat(3550, "$s1", title=LESSON, co_viewers=[co_viewer(SECOND, "$s2")]),
                beat(3700, "$s1", title=LESSON, co_viewers=[co_viewer(SECOND, "$s2")]),
                balance(3701),
                balance(3701, SECOND),
            ),
        ),
        Draft(
            name="together-taken-over",
            about="A co-viewer that watches elsewhere by now is refused in its own entry, and the others go on.",
            live=True,
            child=DAILY,
            siblings=(DAILY,),
            acts=(
                beat(0, co_viewers=[co_viewer(SECOND)]),
                beat(2, on=TABLET, profile_id=SECOND),
                beat(4, "$s1", co_viewers=[co_viewer(SECOND, "$s2")]),
                beat(5, "$s1"),
                balance(5),
                balance(5, SECOND),
            ),
        ),
        Draft(
            name="together-title-change",
            about="Another title opens a new session for each child.",
            live=True,
            child=DAILY,
            siblings=(DAILY,),
            acts=(
                beat(0, co_viewers=[co_viewer(SECOND)]),
                beat(2, "$s1", title=CARTOON, co_viewers=[co_viewer(SECOND, "$s2")]),
                beat(4, "$s3", title=CARTOON, co_viewers=[co_viewer(SECOND, "$s4")]),
                balance(4, SECOND),
            ),
        ),
    )
