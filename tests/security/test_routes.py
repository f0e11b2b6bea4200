"""Every route in every role, compared with the table of docs/reference/security.md."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.auth.tokens import Role
from tests.scenes.api import Api
from tests.security.scene import ROUTES, Answer, Call, Scene, declared_codes

_TABLE = Path(__file__).parents[2] / "docs" / "reference" / "security.md"
_ROW = re.compile(r"^\| ([A-Z]+) \| (/\S+) \| ([a-z, ]+) \| (own|403|403 per beat) \|$", re.MULTILINE)


@dataclass(frozen=True)
class Rule:
    """A row of the table."""

    who: frozenset[str]
    another_family: str


RULES = {
    (method, path): Rule(frozenset(who.split(", ")), another)
    for method, path, who, another in _ROW.findall(_TABLE.read_text(encoding="utf-8"))
}


def test_the_table_names_every_route_and_no_other() -> None:
    assert sorted(RULES) == sorted(ROUTES)
    assert {role for rule in RULES.values() for role in rule.who} <= {"anyone", *Role}


WITHOUT_TOKEN = ("nobody", "expired", "refresh token", "revoked device", "revoked caregiver")
ROLES = {
    "caregiver": {"caregiver"},  # before others end its token
    "household": {"household"},
    "unlocked household": {"household", "parent"},
    "parent": {"parent"},
    "parent device": {"parent"},
    "service": {"service"},
    "admin": {"admin"},
}


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=[" ".join(route) for route in ROUTES])
async def test_everybody_gets_what_the_table_says(partitioned: Api, method: str, path: str) -> None:
    scene, rule = await Scene.of(partitioned), RULES[method, path]
    untouched = await scene.call(method, path)
    for caller in WITHOUT_TOKEN:
        answer = await scene.ask(caller, untouched)
        assert (answer.status == 401) is ("anyone" not in rule.who), (caller, answer)
        _check_declared(method, path, answer)
    for caller in ("another household", "another parent"):
        answer = await _check_another_family(scene, rule, caller, await scene.call(method, path))
        _check_declared(method, path, answer)
    for caller, roles in ROLES.items():
        if rule.who & {"anyone", *roles}:
            if (method, path) == ("DELETE", "/api/v1/account"):
                scene = await Scene.of(partitioned)  # the one before has just erased its family
            await scene.unlock_again()
            call = await scene.call(method, path)
            answer = await scene.ask(caller, call)
            assert answer.status < 300, (caller, answer)
        else:
            answer = await scene.ask(caller, untouched)
            assert answer.status == 403, (caller, answer)
            assert answer.code in {"forbidden", "pin_required"}, (caller, answer)
            _check_declared(method, path, answer)


def _check_declared(method: str, path: str, answer: Answer) -> None:
    """A refusal is one that the document names for the operation."""
    if answer.status >= 400:
        assert answer.code in declared_codes(method, path, answer.status), answer


async def _check_another_family(scene: Scene, rule: Rule, caller: str, call: Call) -> Answer:
    answer = await scene.ask(caller, call)
    if not rule.who & {"anyone", caller.removeprefix("another ")} or rule.another_family == "403":
        assert answer.status == 403, (caller, answer)
    elif rule.another_family == "403 per beat":
        assert [result["code"] for result in json.loads(answer.body)["results"]] == ["profile_access_denied"]
    else:
        assert answer.status < 300, (caller, answer)
    return answer
