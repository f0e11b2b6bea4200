"""The faults. Each one starts, lasts for a while, and is over when its function returns."""

import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.lab.chaos.clients import ClientPool
from app.lab.chaos.deployment import ChaosDeployment
from app.lab.chaos.proxy import NetworkFault

RESTART_SECONDS = (0.2, 2.0)
HALT_SECONDS = (0.5, 4.0)
STORM_SECONDS = (0.5, 3.0)
OUTAGE_SECONDS = (2.0, 20.0)
REPEATS = 20


@dataclass(frozen=True)
class Scene:
    """The deployment, its players, and the source of random choices."""

    deployment: ChaosDeployment
    clients: ClientPool
    chance: random.Random

    def wait(self, between: tuple[float, float]) -> None:
        time.sleep(self.chance.uniform(*between))


Fault = Callable[[Scene], None]


def kill_api(scene: Scene) -> None:
    os.kill(scene.chance.choice(scene.deployment.pids("api")), signal.SIGKILL)


def kill_worker(scene: Scene) -> None:
    scene.deployment.kill("worker")


def halt_api(scene: Scene) -> None:
    with scene.deployment.stopped(scene.chance.choice(scene.deployment.pids("api"))):
        scene.wait(HALT_SECONDS)


def halt_worker(scene: Scene) -> None:
    with scene.deployment.stopped(scene.deployment.pids("worker")[0]):
        scene.wait(OUTAGE_SECONDS)


def kill_redis(scene: Scene) -> None:
    """Kill Redis. Its restart reads the append-only file."""
    scene.deployment.valkey.kill9()
    scene.wait(RESTART_SECONDS)
    scene.deployment.valkey.start()


def halt_redis(scene: Scene) -> None:
    with scene.deployment.stopped(scene.deployment.valkey.pid):
        scene.wait(HALT_SECONDS)


def pause_redis(scene: Scene) -> None:
    with scene.deployment.redis() as redis:
        redis.execute_command("CLIENT", "PAUSE", str(scene.chance.randint(200, 2000)), "WRITE")  # type: ignore[no-untyped-call]


def empty_redis(scene: Scene) -> None:
    """Redis loses all data.

    An ended session sends no more heartbeats, so its unflushed part is lost with Redis
    (docs/explanation/reliability.md). This fault therefore waits until all players have a running session and all
    ended sessions are flushed. On a machine that is too busy it does nothing after a timeout.
    """
    churn, scene.clients.churn = scene.clients.churn, 0.0
    try:
        # The order matters: while all players watch, no session ends, so an empty outbox stays empty.
        if not scene.deployment.eventually(
            lambda: scene.clients.is_watching() and scene.deployment.finished_waiting() == 0, seconds=30
        ):
            return
        with scene.deployment.redis() as redis:
            redis.flushall()
        scene.wait(RESTART_SECONDS)
    finally:
        scene.clients.churn = churn


def forget_scripts(scene: Scene) -> None:
    with scene.deployment.redis() as redis:
        for _ in range(REPEATS):
            redis.script_flush()
            time.sleep(0.1)


def cut_subscriptions(scene: Scene) -> None:
    with scene.deployment.redis() as redis:
        redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # type: ignore[no-untyped-call]


def stop_postgres(scene: Scene) -> None:
    scene.deployment.stop_postgres()
    scene.wait(OUTAGE_SECONDS)
    scene.deployment.postgres.start()


def cut_postgres(scene: Scene) -> None:
    for _ in range(3):
        scene.deployment.cut_postgres()
        time.sleep(1)


def _weather(weather: NetworkFault, *, to_redis: bool) -> Fault:
    def blow(scene: Scene) -> None:
        proxy = scene.deployment.to_redis if to_redis else scene.deployment.to_postgres
        proxy.delay_seconds = scene.chance.uniform(0.01, 0.1)
        proxy.weather = weather
        scene.wait(STORM_SECONDS)
        proxy.weather = NetworkFault.FAIR

    return blow


BLOWS: Mapping[str, Fault] = {
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
        for weather in NetworkFault
        if weather is not NetworkFault.FAIR
    },
}
