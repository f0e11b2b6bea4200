"""What may happen to a deployment. Each blow falls, lasts a while, and is over when it returns."""

import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.chaos.crowd import Crowd
from app.chaos.proxy import Weather
from app.chaos.stand import Stand

RESTART_SECONDS = (0.2, 2.0)
HALT_SECONDS = (0.5, 4.0)
STORM_SECONDS = (0.5, 3.0)
OUTAGE_SECONDS = (2.0, 20.0)
REPEATS = 20


@dataclass(frozen=True)
class Scene:
    """Who is hurt, who watches, and the chance by which everything is chosen."""

    stand: Stand
    crowd: Crowd
    chance: random.Random

    def wait(self, between: tuple[float, float]) -> None:
        time.sleep(self.chance.uniform(*between))


Blow = Callable[[Scene], None]


def kill_api(scene: Scene) -> None:
    os.kill(scene.chance.choice(scene.stand.pids("api")), signal.SIGKILL)


def kill_worker(scene: Scene) -> None:
    scene.stand.kill("worker")


def halt_api(scene: Scene) -> None:
    with scene.stand.stopped(scene.chance.choice(scene.stand.pids("api"))):
        scene.wait(HALT_SECONDS)


def halt_worker(scene: Scene) -> None:
    with scene.stand.stopped(scene.stand.pids("worker")[0]):
        scene.wait(OUTAGE_SECONDS)


def kill_redis(scene: Scene) -> None:
    """Its append-only file is read again."""
    scene.stand.valkey.kill9()
    scene.wait(RESTART_SECONDS)
    scene.stand.valkey.start()


def halt_redis(scene: Scene) -> None:
    with scene.stand.stopped(scene.stand.valkey.pid):
        scene.wait(HALT_SECONDS)


def pause_redis(scene: Scene) -> None:
    with scene.stand.redis() as redis:
        redis.execute_command("CLIENT", "PAUSE", str(scene.chance.randint(200, 2000)), "WRITE")  # type: ignore[no-untyped-call]


def empty_redis(scene: Scene) -> None:
    """Everything is forgotten.

    A session that has ended sends no more beats, so what was not flushed of it is gone with Redis: that is stated in
    docs/reliability.md. Here players keep their sessions until all are in one and what ended before has been flushed;
    where that takes too long, on a machine that is too busy, Redis is left alone.
    """
    churn, scene.crowd.churn = scene.crowd.churn, 0.0
    try:
        # In this order: a session that has ended is set aside as finished only when its player opens the next.
        if not scene.stand.eventually(
            lambda: scene.crowd.is_watching() and scene.stand.finished_waiting() == 0, seconds=30
        ):
            return
        with scene.stand.redis() as redis:
            redis.flushall()
        scene.wait(RESTART_SECONDS)
    finally:
        scene.crowd.churn = churn


def forget_scripts(scene: Scene) -> None:
    with scene.stand.redis() as redis:
        for _ in range(REPEATS):
            redis.script_flush()
            time.sleep(0.1)


def cut_subscriptions(scene: Scene) -> None:
    with scene.stand.redis() as redis:
        redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # type: ignore[no-untyped-call]


def stop_postgres(scene: Scene) -> None:
    scene.stand.stop_postgres()
    scene.wait(OUTAGE_SECONDS)
    scene.stand.postgres.start()


def cut_postgres(scene: Scene) -> None:
    for _ in range(3):
        scene.stand.cut_postgres()
        time.sleep(1)


def _weather(weather: Weather, *, to_redis: bool) -> Blow:
    def blow(scene: Scene) -> None:
        proxy = scene.stand.to_redis if to_redis else scene.stand.to_postgres
        proxy.delay_seconds = scene.chance.uniform(0.01, 0.1)
        proxy.weather = weather
        scene.wait(STORM_SECONDS)
        proxy.weather = Weather.FAIR

    return blow


BLOWS: Mapping[str, Blow] = {
    "API process killed": kill_api,
    "worker killed": kill_worker,
    "API process stopped for a while": halt_api,
    "worker stopped for a while": halt_worker,
    "Redis killed": kill_redis,
    "Redis stopped for a while": halt_redis,
    "Redis paused for writes": pause_redis,
    "Redis emptied": empty_redis,
    "scripts forgotten again and again": forget_scripts,
    "subscriptions cut": cut_subscriptions,
    "PostgreSQL stopped at once, away for a while": stop_postgres,
    "connections to PostgreSQL cut again and again": cut_postgres,
    **{
        f"network to {'Redis' if to_redis else 'PostgreSQL'}: {weather.value}": _weather(weather, to_redis=to_redis)
        for to_redis in (True, False)
        for weather in Weather
        if weather is not Weather.FAIR
    },
}
