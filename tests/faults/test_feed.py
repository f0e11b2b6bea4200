"""The event feed and signed leases while processes die: every event once, in order, and no wrong lease."""

from collections.abc import Callable

from app.lab.chaos.deployment import ChaosDeployment
from app.lab.chaos.feed_consumer import FeedResult
from tests.faults.record import Trial

Begin = Callable[..., Trial]


def test_a_consumer_reads_every_event_once(deployment: ChaosDeployment, trial: Begin) -> None:
    consumer = deployment.feed_consumer()
    consumer.start()
    try:
        with trial(0, "feed", size=20, churn=0.3, together=0.3, leased=0.5) as watching:
            deployment.kill("worker")
            dead = deployment.kill("api")
            deployment.cut_postgres()
            assert deployment.eventually(lambda: dead not in deployment.pids("api"), seconds=20)
            watching.endure(2)
        result = deployment.feed_result(consumer, watching.clients, seconds=20)
    finally:
        consumer.stop()
    watching.expect_exact()
    assert result.differences == ()
    assert result.ended > watching.clients.size, "sessions ended beside the faults"
    stats = (watching.before, watching.during, watching.after)
    assert sum(each.leases for each in stats) > 0
    assert sum(each.wrong_leases for each in stats) == 0
    _expect_differences(deployment, watching, result)


def _expect_differences(deployment: ChaosDeployment, watching: Trial, result: FeedResult) -> None:
    """A consumer that reads nothing is told what it lacks."""
    idle = deployment.feed_result(deployment.feed_consumer(), watching.clients, seconds=0)
    assert f"feed: {result.read} x kept, and not read" in idle.differences[0]
    assert len(idle.differences) == 2
