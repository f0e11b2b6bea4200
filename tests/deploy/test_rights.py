"""The whole service with exactly the rights of deploy/rights: nothing is missing, and nothing more is allowed."""

import re
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from app.embedded.server import ServerFailed
from tests.deployed import Deployed, free_port
from tests.servers import Databases, running_postgres, running_valkey

RIGHTS = Path(__file__).parents[2] / "deploy" / "rights"
PASSWORD = "correct horse battery"
DATABASE = "hourglass"


def _as_role(server: Databases, role: str) -> str:
    return server.url.replace("postgresql://postgres@", f"postgresql://{role}@")


def _users(redis: Redis) -> None:
    """Let the users of the file in, but for the one that turns everybody else away."""
    for line in (RIGHTS / "redis.acl").read_text(encoding="utf-8").splitlines():
        if line.startswith("user hourglass_"):
            redis.execute_command("ACL", "SETUSER", *line.split()[1:])  # type: ignore[no-untyped-call]


def _redis_url(url: str, user: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"hourglass_{user}:change-me-{user}@{parts.netloc}").geturl()


def _all_that_a_family_does(url: str, service: str) -> None:
    """One call of each kind; none may end in a server error."""
    with httpx.Client(base_url=f"{url}/api/v1", timeout=20) as http:

        def ask(method: str, path: str, body: Any = None, **headers: str) -> Any:
            answer = http.request(method, path, json=body, headers=headers)
            assert answer.status_code < 400, (method, path, answer.text)
            return answer.json() if answer.content else None

        email = f"{uuid.uuid4().hex}@example.org"
        account = {"email": email, "password": PASSWORD, "timezone": "Europe/Oslo"}
        ask("POST", "/auth/register", account)
        tokens = ask("POST", "/auth/login", {"email": email, "password": PASSWORD})
        ask("POST", "/auth/refresh", {"refresh_token": tokens["refresh_token"]})
        titles = [{"id": "moon", "name": "Moon", "is_educational": False}]
        ask("PUT", "/catalog/titles", titles, Authorization=f"Bearer {service}")
        http.headers["Authorization"] = f"Bearer {tokens['access_token']}"
        ask("POST", "/parental-controls/pin", {"new_pin": "1234", "password": PASSWORD})
        pin = ask("POST", "/parental-controls/pin/verify", {"pin": "1234"})
        http.headers["X-PIN-Token"] = pin["pin_token"]
        device = ask("POST", "/auth/devices", {"name": "tablet", "pin": "1234"})
        child = ask("POST", "/profiles", {"name": "Ada", "is_kids": True})["id"]
        beat = {"profile_id": child, "title_id": "moon", "device_id": "tv", "device_type": "tv"}
        session = ask("POST", "/viewing-time/heartbeat", beat)["session_id"]
        ask("POST", "/viewing-time/heartbeat", {**beat, "session_id": session})
        ask("POST", f"/viewing-time/session/{session}/end", {})
        for path in ("balance", "playback-eligible", "why"):
            ask("GET", f"/viewing-time/{path}/{child}")
        control = f"/parental-controls/profiles/{child}"
        config = http.get(f"{control}/viewing-time")
        ask("PUT", f"{control}/viewing-time", {"reset_hour": 5}, **{"If-Match": config.headers["etag"]})
        ask("POST", f"{control}/viewing-time/grant", {"minutes": 15}, **{"Idempotency-Key": uuid.uuid4().hex})
        request = ask("POST", f"{control}/requests", {"minutes": 15})
        ask("POST", f"{control}/requests/{request['request_id']}/deny")
        ask("GET", f"{control}/history")
        ask("GET", "/parental-controls/weekly-report")
        with http.stream("GET", f"/viewing-time/events/{child}") as stream:
            assert stream.status_code == 200
        ask("GET", f"{control}/export")
        ask("DELETE", f"/auth/devices/{device['id']}")
        while not ask("GET", f"{control}/history")["days"]:
            time.sleep(0.1)  # the worker flushes what was watched before it is erased
        ask("DELETE", f"/profiles/{child}")
        http.request("DELETE", "/account", json={"password": PASSWORD})


def _all_that_the_platform_does(url: str, deployed: Deployed) -> None:
    """Markets, enforcement, the event feed and support: one call of each kind."""
    service = {"Authorization": f"Bearer {deployed.token('service')}"}
    support = {"Authorization": f"Bearer {deployed.token('admin')}"}
    with httpx.Client(base_url=f"{url}/api/v1", timeout=20, headers=service) as http:

        def ask(method: str, path: str, body: Any = None, **headers: str) -> Any:
            answer = http.request(method, path, json=body, headers=headers)
            assert answer.status_code < 400, (method, path, answer.text)
            return answer.json() if answer.content else None

        account = f"/accounts/auth0|{uuid.uuid4().hex}"
        made = ask("PUT", f"/platform{account}", {"timezone": "Europe/Oslo", "market": "no"})
        ask("PUT", f"/platform{account}/profiles/kid", {"name": "Kit", "is_kids": True})
        ask("PATCH", account, {"market": "ae"})
        ask("PATCH", f"{account}/profiles/kid", {"enforcement": "shadow"})
        ask("PATCH", account, {"market": None})
        ask("GET", f"/platform{account}")
        player = {"Authorization": f"Bearer {deployed.token('parent', account=made['account_id'])}"}
        ask("POST", "/viewing-time/heartbeat", {"profile_id": "kid", "title_id": "moon", "device_id": "tv"}, **player)
        ask("GET", "/viewing-time/why/kid", **player)
        ask("GET", "/platform/shadow-report")
        ask("GET", "/platform/events")
        for path in (
            "profiles",
            "profiles/kid/balance",
            "profiles/kid/why",
            "profiles/kid/history",
            "audit",
            "dead-letters",
        ):
            ask("GET", f"/admin{account}/{path}", **support)
        ask("GET", "/admin/flush", **support)
        ask("DELETE", f"/platform{account}/profiles/kid")
        ask("DELETE", f"/platform{account}")


def test_every_part_works_with_its_own_rights_and_has_no_others(tmp_path: Path) -> None:
    with running_postgres() as postgres, running_valkey() as valkey:
        rights = (RIGHTS / "postgresql.sql").read_text(encoding="utf-8")
        postgres.execute(rights, database=DATABASE)
        redis = Redis.from_url(valkey.url)
        _users(redis)
        redis.execute_command("ACL", "LOG", "RESET")  # type: ignore[no-untyped-call]
        markets = tmp_path / "markets.toml"
        markets.write_text('[markets.no]\n[markets.ae]\nweekend_days = ["sat"]\n', encoding="utf-8")
        variables = {
            "HOURGLASS_MARKETS_FILE": str(markets),
            "HOURGLASS_EVENT_FEED": "true",
            "DATABASE_URL": _as_role(postgres, "hourglass_api"),
            "REDIS_URL": _redis_url(valkey.url, "api"),
            "HOURGLASS_FLUSH_CYCLE_SECONDS": "0.3",
            "HOURGLASS_FLUSH_AGE_SECONDS": "0",
            "HOURGLASS_POLICY_SWEEP_SECONDS": "0.5",
        }
        with Deployed(tmp_path, variables) as deployed:
            deployed.hourglass("migrate", "migrate", DATABASE_URL=_as_role(postgres, "hourglass_migrate"))
            assert deployed.wait("migrate") == 0, deployed.log("migrate")
            postgres.execute(rights, database=DATABASE)  # as its head says: once more
            of_worker = {
                "DATABASE_URL": _as_role(postgres, "hourglass_worker"),
                "REDIS_URL": _redis_url(valkey.url, "worker"),
            }
            deployed.hourglass("worker", "worker", **of_worker)
            url = deployed.api(free_port())
            _all_that_a_family_does(url, deployed.token("service"))
            _all_that_the_platform_does(url, deployed)
            file = tmp_path / "saved"
            deployed.hourglass(
                "backup",
                "backup",
                str(file),
                DATABASE_URL=_as_role(postgres, "hourglass_read"),
                REDIS_URL=_redis_url(valkey.url, "backup"),
            )
            assert deployed.wait("backup") == 0, deployed.log("backup")
            logs = deployed.log("api") + deployed.log("worker")
        denied: list[Any] = redis.execute_command("ACL", "LOG")  # type: ignore[no-untyped-call]
        assert denied == []
        assert not re.search("permission denied|NOPERM|InsufficientPrivilege", logs)
        assert (
            "partitions_made" in logs or postgres.execute("SELECT count(*) FROM pg_inherits", database=DATABASE) != "0"
        )
        _nothing_more(postgres, valkey.url)
        redis.close()


def _nothing_more(postgres: Databases, redis_url: str) -> None:
    """What a part that was taken over must not be able to do."""
    for role, statement in (
        ("hourglass_api", "DROP TABLE accounts"),
        ("hourglass_api", "ALTER TABLE viewing_sessions ADD COLUMN more int"),
        ("hourglass_api", "CREATE TABLE more (id int)"),
        ("hourglass_api", "UPDATE alembic_version SET version_num = '0000'"),
        ("hourglass_api", "COPY accounts TO PROGRAM 'cat'"),
        ("hourglass_worker", "DROP TABLE accounts"),
        ("hourglass_worker", "ALTER TABLE time_grants ADD COLUMN more int"),
        ("hourglass_read", "DELETE FROM accounts"),
        ("hourglass_read", "INSERT INTO titles DEFAULT VALUES"),
    ):
        with pytest.raises(ServerFailed, match=r"permission denied|must be owner"):
            postgres.execute(f"SET ROLE {role}; {statement}", database=DATABASE)
    for user, command in (
        ("api", ("FLUSHALL",)),
        ("api", ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")),
        ("api", ("KEYS", "*")),
        ("api", ("GET", "other")),
        ("api", ("SHUTDOWN",)),
        ("worker", ("DEBUG", "SLEEP", "0")),
        ("worker", ("ACL", "LIST")),
        ("backup", ("SET", "hg:{0}:mark", "x")),
        ("backup", ("EVAL", "return 1", "0")),
    ):
        client = Redis.from_url(_redis_url(redis_url, user))
        with pytest.raises(NoPermissionError):
            client.execute_command(*command)  # type: ignore[no-untyped-call]
        client.close()
