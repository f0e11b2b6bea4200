"""Rows 4 to 16: Redis dies, forgets, stands still, is full or cannot write."""

import random
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from redis import Redis

from app.chaos.blows import Scene, empty_redis
from app.chaos.proxy import Weather
from app.chaos.stand import Stand
from tests.faults.disks import tiny_disk
from tests.faults.households import Home
from tests.faults.record import Trial
from tests.servers import Cache, Databases, reachable_folder

Begin = Callable[..., Trial]
AWAY = ("200", "503 counters_unavailable")
FLUSHED_SECONDS = 2.5
"""With the stand's settings everything dirty has been flushed once after so long."""


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


def test_killed_with_its_file(stand: Stand, trial: Begin) -> None:
    with trial(4, "Redis kill -9 with AOF") as watching:
        for _ in range(2):
            stand.valkey.kill9()
            time.sleep(0.5)
            stand.valkey.start()
            time.sleep(1)
    watching.expect_exact()
    watching.expect_answers(*AWAY)


def test_forgets_everything(stand: Stand, trial: Begin) -> None:
    home = Home.found(stand)
    assert [home.try_pin("0000") for _ in range(6)] == [403] * 5 + [423]
    with trial(5, "FLUSHALL, twice") as watching, stand.redis() as redis:
        for _ in range(2):
            redis.flushall()
            time.sleep(1.5)
    watching.expect_exact()
    watching.expect_answers("200")
    assert home.try_pin(home.pin) == 423, "the lock was in Redis alone"


@pytest.mark.faults
def test_forgets_everything_while_sessions_come_and_go(stand: Stand, trial: Begin) -> None:
    """What has ended is flushed first, so that the oracle of the soak may expect all of it."""
    watching = trial(5, "FLUSHALL, 3 times, beside sessions that end", size=200, interval_seconds=2.0, churn=0.2)
    with watching:
        scene, before = Scene(stand, watching.crowd, random.Random(5)), _times_emptied(stand)  # noqa: S311  to repeat
        for _ in range(3):
            time.sleep(2)
            empty_redis(scene)
        assert _times_emptied(stand) == before + 3
    watching.expect_exact()
    watching.expect_answers(*AWAY, "409 session_ended")


def _times_emptied(stand: Stand) -> int:
    with stand.redis() as redis:
        calls = redis.info("commandstats").get("cmdstat_flushall", {})
        return int(calls.get("calls", 0))


@pytest.mark.faults
def test_killed_without_its_file(stand: Stand, trial: Begin) -> None:
    with trial(5, "Redis kill -9, its data gone") as watching:
        stand.wipe_valkey()
        time.sleep(0.5)
        stand.valkey.start()
        time.sleep(1.5)
    watching.expect_exact()
    watching.expect_answers(*AWAY)


@pytest.mark.faults
def test_back_from_an_old_snapshot(stand: Stand, trial: Begin) -> None:
    data, old = stand.valkey.home / "appendonlydir", stand.valkey.home / "old"
    with trial(6, "Redis back from an old snapshot") as watching:
        stand.valkey.kill9()
        shutil.copytree(data, old)
        stand.valkey.start()
        time.sleep(2 * FLUSHED_SECONDS)
        stand.valkey.kill9()
        shutil.rmtree(data)
        old.rename(data)
        stand.valkey.start()
        time.sleep(FLUSHED_SECONDS)
    watching.expect_exact()
    watching.expect_answers(*AWAY)


@pytest.mark.faults
def test_a_lagging_replica_is_promoted(stand: Stand, trial: Begin) -> None:
    port = _free_port()
    with stand.redis() as redis:
        redis.config_set("port", port)
    replica = Cache(stand.folder / "replica", options={"replicaof": f"127.0.0.1 {port}"})
    replica.start()
    with ExitStack() as ending:
        ending.callback(replica.stop)
        with trial(7, "a replica 4 s behind is promoted") as watching:
            with _client(replica) as behind:
                assert stand.eventually(lambda: behind.info("replication")["master_link_status"] == "up", seconds=20)
                behind.replicaof("NO", "ONE")
            time.sleep(4)
            ending.enter_context(stand.promoted(replica))
            time.sleep(FLUSHED_SECONDS)
    watching.expect_exact()
    watching.expect_answers(*AWAY)


@pytest.mark.faults
def test_scripts_are_flushed(stand: Stand, trial: Begin) -> None:
    with (
        trial(9, "SCRIPT FLUSH every 100 ms") as watching,
        stand.redis() as redis,
        meanwhile(redis.script_flush, every_seconds=0.1),
    ):
        time.sleep(2)
    watching.expect_exact()
    watching.expect_answers("200")


@pytest.mark.faults
def test_stands_still(stand: Stand, trial: Begin) -> None:
    with trial(10, "SIGSTOP Redis for 10 s") as watching:
        with stand.stopped(stand.valkey.pid):
            time.sleep(10)
        time.sleep(0.5)
    watching.expect_exact()
    watching.expect_answers(*AWAY)


def test_replies_are_lost(stand: Stand, trial: Begin) -> None:
    with trial(11, "Redis executes, replies are lost for 2 s") as watching:
        stand.to_redis.weather = Weather.REPLIES_LOST
        time.sleep(2)
        stand.to_redis.weather = Weather.FAIR
        time.sleep(1)
    watching.expect_exact()
    watching.expect_answers(*AWAY)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("weather", "allowed"),
    [
        (Weather.BLACK_HOLE, AWAY),
        (Weather.RESET, AWAY),
        (Weather.SLICED, ("200",)),
        (Weather.SLOW, ("200",)),
    ],
)
def test_the_network_to_redis(stand: Stand, trial: Begin, weather: Weather, allowed: tuple[str, ...]) -> None:
    with trial(11, f"network to Redis: {weather.value} for 2 s") as watching:
        stand.to_redis.delay_seconds = 0.05
        stand.to_redis.weather = weather
        time.sleep(2)
        stand.to_redis.weather = Weather.FAIR
        time.sleep(1)
    watching.expect_exact()
    watching.expect_answers(*allowed)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("what", "command"),
    [("CLIENT PAUSE 2 s", ("CLIENT", "PAUSE", "2000", "WRITE")), ("DEBUG SLEEP 3", ("DEBUG", "SLEEP", "3"))],
)
def test_is_slow(stand: Stand, trial: Begin, what: str, command: tuple[str, ...]) -> None:
    with trial(12, what) as watching, stand.redis(seconds=10) as redis:
        redis.execute_command(*command)  # type: ignore[no-untyped-call]
        time.sleep(3)
    watching.expect_exact()
    watching.expect_answers(*AWAY)


@pytest.mark.faults
def test_is_full(stand: Stand, trial: Begin) -> None:
    home = Home.found(stand)
    with trial(13, "Redis full (maxmemory)") as watching, stand.redis() as redis:
        redis.config_set("maxmemory", "1mb")
        assert redis.info("memory")["used_memory"] > 2**20
        time.sleep(2)
        assert home.balance().status_code == 200, "reads work"
        redis.config_set("maxmemory", "0")
        time.sleep(1)
    watching.expect_exact()
    watching.expect_answers(*AWAY)
    assert watching.during.answers["503 counters_unavailable"] > 0


@pytest.mark.faults
def test_is_read_only(stand: Stand, trial: Begin) -> None:
    with trial(16, "a read-only replica behind the address for 2 s") as watching, stand.redis() as redis:
        redis.replicaof("127.0.0.1", 1)
        time.sleep(2)
        redis.replicaof("NO", "ONE")
        time.sleep(1)
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
        Stand(folder, postgres=Databases(folder / "postgres"), valkey=Cache(disk / "valkey"), viewers=100) as stand,
    ):
        with Trial(stand, row=15, fault="disk of the AOF full for 4 s", size=20) as watching:
            ballast = disk / "ballast"
            with suppress(OSError):
                ballast.write_bytes(bytes(20 * 2**20))
            time.sleep(4)
            ballast.unlink()
            time.sleep(2)
        watching.expect_exact()
        watching.expect_answers(*AWAY)
        assert watching.during.answers["503 counters_unavailable"] > 0
