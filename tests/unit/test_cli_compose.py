"""docker-compose.yml and the Dockerfile use existing commands and settings."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from typer.core import TyperGroup

from app.cli import app
from app.settings.settings import Settings, variable_of

ROOT = Path(__file__).parents[2]
OURS = ("migrate", "api", "worker")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def assert_is_a_command(arguments: list[str]) -> None:
    """Parse a command line, options included, without running it."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    with group.make_context("hourglass", list(arguments)):
        name, *options = arguments
        assert name in group.commands
        group.commands[name].make_context(name, options)


@pytest.mark.parametrize("service", OURS)
def test_each_service_runs_a_command(compose: dict[str, Any], service: str) -> None:
    assert_is_a_command(compose["services"][service]["command"])


@pytest.mark.parametrize("service", OURS)
def test_each_variable_is_a_setting(compose: dict[str, Any], service: str) -> None:
    known = {variable_of(field) for field in Settings.model_fields}
    for name in compose["services"][service]["environment"]:
        assert name.removesuffix("_FILE") in known


@pytest.mark.parametrize("service", OURS)
def test_secrets_are_files_that_are_mounted(compose: dict[str, Any], service: str) -> None:
    described = compose["services"][service]
    files = {name: path for name, path in described["environment"].items() if name.endswith("_FILE")}
    assert {path.removeprefix("/run/secrets/") for path in files.values()} == set(described["secrets"])
    assert set(described["secrets"]) <= set(compose["secrets"])
    made = (ROOT / "deploy" / "make-secrets").read_text()
    assert all(Path(secret["file"]).name in made for secret in compose["secrets"].values())


def test_everybody_waits_for_what_they_need(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for service in ("api", "worker"):
        assert services[service]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "valkey": {"condition": "service_healthy"},
        }
    for service in ("postgres", "valkey", "api"):
        assert services[service]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}


def test_data_is_kept_in_named_volumes(compose: dict[str, Any]) -> None:
    for service in ("postgres", "valkey"):
        volume, _, _ = compose["services"][service]["volumes"][0].partition(":")
        assert volume in compose["volumes"]


def test_the_image_runs_a_command_as_an_ordinary_user() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    command = re.search(r"^CMD (\[.*\])$", dockerfile, re.MULTILINE)
    assert command is not None
    assert_is_a_command(yaml.safe_load(command[1]))
    assert re.search(r"^USER hourglass$", dockerfile, re.MULTILINE)
    assert "--require-hashes" in dockerfile
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE):
        assert all((ROOT / path).exists() for path in source.split())
