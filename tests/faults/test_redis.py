"""Redis fails, loses data, pauses, is full, or cannot write."""

import random
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from redis import Redis

from app.lab.chaos.deployment import ChaosDeployment
from app.lab.chaos.faults import Scene, empty_redis
from app.lab.chaos.proxy import NetworkFault
from tests.faults.disks import tiny_disk
from tests.faults.households import Home
from tests.faults.record import Trial
from tests.servers import Cache, Databases, reachable_folder

Begin = Callable[..., Trial]
AWAY = ("200", "503 counters_unavailable")


@contextmanager
def meanwhile(action: Callable[[], object], *, every_seconds: float) -> Iterator[None]:
    """Do something again and again beside the block."""
    stop = threading.Event()
    failed: list[Exception] = []

    def repeat() -> None:
        while not stop.wait(every_seconds):
            try:
                action()
            except Exception as error:  # noqa: BLE001  told by the thread that waits
                failed.append(error)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert failed == []


def test_killed_with_its_file(deployment: ChaosDeployment, trial: Begin) -> None:
    with trial(4, "Redis kill -9 with AOF") as watching:
        for _ in range(2):
            deployment.valkey.kill9()
            watching.endure(0.5)
            deployment.valkey.start()
            watching.until_heard()
    watching.expect_exact()
    watching.expect_answers(*AWAY)


def test_forgets_everything(deployment: ChaosDeployment, trial: Begin) -> None:
    home = Home.found(deployment)
    assert [home.try_pin("0000") for _ in range(6)] == [403] * 5 + [423]
    with trial(5, "FLUSHALL, twice") as watching, deployment.redis() as redis:
        for _ in range(2):
            redis.flushall()
            watching.until_heard()
    watching.expect_exact()
    watching.expect_answers("200")
    assert home.try_pin(home.pin) == 423, "the lock was in Redis alone"


@pytest.mark.faults
def test_forgets_everything_while_sessions_come_and_go(deployment: ChaosDeployment, trial: Begin) -> None:
    """What has ended is flushed first, so that the oracle of the soak may expect all of it."""
    watching = trial(5, "FLUSHALL, 3 times, beside sessions that end", size=200, interval_seconds=2.0, churn=0.2)
    with watching:
        scene, before = Scene(deployment, watching.clients, random.Random(5)), _times_emptied(deployment)  # noqa: S311  to repeat
        for _ in range(3):
            watching.until_heard()
            empty_redis(scene)
        assert _times_emptied(deployment) == before + 3
    watching.expect_exact()
    watching.expect_answers(*AWAY, "409 session_ended")


def _times_emptied(deployment: ChaosDeployment) -> int:
    with deployment.redis() as redis:
        calls = redis.info("commandstats").get("cmdstat_flushall", {})
        return int(calls.get("calls", 0))


@pytest.mark.faults
def test_killed_without_its_file(deployment: ChaosDeployment, trial: Begin) -> None:
    with trial(5, "Redis kill -9, its data gone") as watching:
        deployment.wipe_valkey()
        watching.endure(0.5)
        deployment.valkey.start()
        watching.until_heard()
    watching.expect_exact()
    watching.expect_answers(*AWAY)


@pytest.mark.faults
def test_back_from_an_old_snapshot(deployment: ChaosDeployment, trial: Begin) -> None:
    data, old = deployment.valkey.home / "appendonlydir", deployment.valkey.home / "old"
    with trial(6, "Redis back from an old snapshot") as watching:
        deployment.valkey.kill9()
        shutil.copytree(data, old)
        deployment.valkey.start()
        watching.until_heard()
        watching.until_flushed()
        deployment.valkey.kill9()
        shutil.rmtree(data)
        old.rename(data)
        deployment.valkey.start()
        watching.until_heard()
    watching.expect_exact()
    watching.expect_answers(*AWAY)


@pytest.mark.faults
def test_a_lagging_replica_is_promoted(deployment: ChaosDeployment, trial: Begin) -> None:
    port = _free_port()
    with deployment.redis() as redis:
        redis.config_set("port", port)
    replica = Cache(deployment.folder / "replica", options={"replicaof": f"127.0.0.1 {port}"})
    replica.start()
    with ExitStack() as ending:
        ending.callback(replica.stop)
        with trial(7, "a replica 4 s behind is promoted") as watching:
            with _client(replica) as behind:
                assert deployment.eventually(
                    lambda: behind.info("replication")["master_link_status"] == "up", seconds=20
                )
                behind.replicaof("NO", "ONE")
            watching.endure(4)
            ending.enter_context(deployment.promoted(replica))
            watching.until_heard()
    watching.expect_exact()
    watching.expect_answers(*AWAY)


@pytest.mark.faults
def test_scripts_are_flushed(deployment: ChaosDeployment, trial: Begin) -> None:
    with (
        trial(9, "SCRIPT FLUSH every 100 ms") as watching,
        deployment.redis() as redis,
        meanwhile(redis.script_flush, every_seconds=0.1),
    ):
        watching.endure(2)
    watching.expect_exact()
    watching.expect_answers("200")


@pytest.mark.faults
def test_stands_still(deployment: ChaosDeployment, trial: Begin) -> None:
    with trial(10, "SIGSTOP Redis for 10 s") as watching:
        with deployment.stopped(deployment.valkey.pid):
            watching.endure(10)
        watching.until_heard()
    watching.expect_exact()
    watching.expect_answers(*AWAY)


def test_replies_are_lost(deployment: ChaosDeployment, trial: Begin) -> None:
    with trial(11, "Redis executes, replies are lost for 2 s") as watching:
        deployment.to_redis.weather = NetworkFault.REPLIES_LOST
        watching.endure(2)
        deployment.to_redis.weather = NetworkFault.FAIR
        watching.until_heard()
    watching.expect_exact()
    watching.expect_answers(*AWAY)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("weather", "allowed"),
    [
        (NetworkFault.BLACK_HOLE, AWAY),
        (NetworkFault.RESET, AWAY),
        (NetworkFault.SLICED, ("200",)),
        (NetworkFault.SLOW, ("200",)),
    ],
)
def test_the_network_to_redis(
    deployment: ChaosDeployment, trial: Begin, weather: NetworkFault, allowed: tuple[str, ...]
) -> None:
    with trial(11, f"network to Redis: {weather.value} for 2 s") as watching:
        deployment.to_redis.delay_seconds = 0.05
        deployment.to_redis.weather = weather
        watching.endure(2)
        deployment.to_redis.weather = NetworkFault.FAIR
        watching.until_heard()
    watching.expect_exact()
    watching.expect_answers(*allowed)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("what", "command"),
    [("CLIENT PAUSE 2 s", ("CLIENT", "PAUSE", "2000", "WRITE")), ("DEBUG SLEEP 3", ("DEBUG", "SLEEP", "3"))],
)
def test_is_slow(deployment: ChaosDeployment, trial: Begin, what: str, command: tuple[str, ...]) -> None:
    with trial(12, what) as watching, deployment.redis(seconds=10) as redis:
        redis.execute_command(*command)  # type: ignore[no-untyped-call]
        watching.endure(3)
    watching.expect_exact()
    watching.expect_answers(*AWAY)


@pytest.mark.faults
def test_is_full(deployment: ChaosDeployment, trial: Begin) -> None:
    home = Home.found(deployment)
    with trial(13, "Redis full (maxmemory)") as watching, deployment.redis() as redis:
        redis.config_set("maxmemory", "1mb")
        assert redis.info("memory")["used_memory"] > 2**20
        watching.endure(2)
        assert home.balance().status_code == 200, "reads work"
        redis.config_set("maxmemory", "0")
        watching.until_heard()
    watching.expect_exact()
    watching.expect_answers(*AWAY)
    assert watching.during.answers["503 counters_unavailable"] > 0


@pytest.mark.faults
def test_is_read_only(deployment: ChaosDeployment, trial: Begin) -> None:
    with trial(16, "a read-only replica behind the address for 2 s") as watching, deployment.redis() as redis:
        redis.replicaof("127.0.0.1", 1)
        watching.endure(2)
        redis.replicaof("NO", "ONE")
        watching.until_heard()
    watching.expect_exact()
    watching.expect_answers(*AWAY)
    assert watching.during.answers["503 counters_unavailable"] > 0


@contextmanager
def _client(server: Cache) -> Iterator[Redis]:
    client = Redis.from_url(server.url, protocol=2)
    try:
        yield client
    finally:
        client.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.mark.faults
def test_the_disk_of_its_file_is_full() -> None:
    with (
        reachable_folder() as folder,
        tiny_disk(folder / "tiny", megabytes=16) as disk,
        ChaosDeployment(
            folder, postgres=Databases(folder / "postgres"), valkey=Cache(disk / "valkey"), viewers=100
        ) as deployment,
    ):
        with Trial(deployment, row=15, fault="disk of the AOF full for 4 s", size=20) as watching:
            ballast = disk / "ballast"
            with suppress(OSError):
                ballast.write_bytes(bytes(20 * 2**20))
            watching.endure(4)
            ballast.unlink()
            watching.until_heard()
        watching.expect_exact()
        watching.expect_answers(*AWAY)
        assert watching.during.answers["503 counters_unavailable"] > 0
