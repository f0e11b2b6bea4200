"""Secrets rotate as docs/howto/rotate.md has it: rolling restarts under load behind nginx, and nobody is refused."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.embedded.valkey import Valkey
from tests.deploy.test_nginx import NGINX, proxied
from tests.deployed import SECRETS, Deployed, free_port, is_good
from tests.servers import Databases
from tests.watchers import Household, Watcher, add_title, flushed_seconds, households, repeated, watching

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

OLD = SECRETS
NEW = {name: value.upper() for name, value in OLD.items()}


def previous(secrets: Mapping[str, str]) -> dict[str, str]:
    """Variables with which a process accepts these secrets, too."""
    return {f"{name}_PREVIOUS": value for name, value in secrets.items()}


def everything_signed_or_hashed(home: Household) -> None:
    """A password, a PIN, a refresh token and an access token, all of them by whichever process answers."""
    home.sign_in()
    home.refresh()
    home.unlock()
    home.limit(90)


def test_all_secrets_rotate_under_load_and_nobody_is_refused(
    postgres: Databases, valkey: Valkey, tmp_path: Path
) -> None:
    address = postgres.fresh()
    database = urlsplit(address).path.strip("/")
    variables = {
        "DATABASE_URL": address,
        "REDIS_URL": valkey.url,
        "HOURGLASS_DRAIN_SECONDS": "3",
        "HOURGLASS_ACCESS_LOG": "0",
        "HOURGLASS_ACCOUNT_REQUESTS_PER_MINUTE": "0",
        "HOURGLASS_TOKEN_REQUESTS_PER_MINUTE": "0",
        "HOURGLASS_FLUSH_CYCLE_SECONDS": "0.5",
        "HOURGLASS_METRICS_DIR": "",
        "PROMETHEUS_MULTIPROC_DIR": "",
    }
    ports = {"a": free_port(), "b": free_port()}
    with Deployed(tmp_path, variables) as deployed:
        for name, port in ports.items():
            deployed.api(port, name)
        deployed.hourglass("worker", "worker", HOURGLASS_WORKER_PORT=str(free_port()))
        with proxied(deployed, list(ports.values())) as url:

            def restart_with(secrets: Mapping[str, str]) -> None:
                for name, port in ports.items():
                    assert deployed.stop(name) == 0, deployed.log(name)[-2000:]
                    deployed.api(port, name, **secrets)
                    deployed.until(lambda: is_good(f"{url}/health/ready"), "nginx has a ready one")

            add_title(url, deployed.token("service"))
            with households(url, 4) as [adults, *others]:
                watchers = [Watcher(home, pause_seconds=0.2) for home in others]
                with watching(watchers), repeated(lambda: everything_signed_or_hashed(adults)) as done:
                    restart_with({**OLD, **previous(NEW)})
                    restart_with({**NEW, **previous(OLD)})
                assert set(done) == {"done"}, done
                with households(url, 2) as newer:
                    everything_signed_or_hashed(adults)
                    late = [Watcher(home, pause_seconds=0.2) for home in newer]
                    with watching(late), repeated(lambda: everything_signed_or_hashed(adults)) as done:
                        restart_with(NEW)
                    assert set(done) == {"done"}, done
                gone = others[0].http.get("/profiles", headers=others[0].player)
                assert gone.status_code == 401, "what the old secret signed is worth nothing any more"
        assert deployed.stop("worker") == 0, "it flushes the rest"
        for watcher in (*watchers, *late):
            watcher.assert_counted(flushed_seconds(postgres, database, watcher.home.child))
