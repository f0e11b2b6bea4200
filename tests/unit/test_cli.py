"""The command line: help, exit codes, messages."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app import __version__
from app.auth.tokens import Role, Tokens
from app.cli import main
from app.clock import now_ms
from app.settings.settings import Settings, variable_of

COMMANDS = (
    *("up", "api", "worker", "migrate", "config", "doctor", "token", "simulate"),
    *("conformance", "bench", "chaos", "reconcile"),
)
SECRET = "0123456789abcdef0123456789abcdef"
ACCOUNT = "6f1d2c9e-6a51-4e7f-9f0a-0d1f5a1f7c11"


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An empty folder, and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    for field in Settings.model_fields:
        monkeypatch.delenv(variable_of(field), raising=False)
    return monkeypatch


@pytest.fixture
def configured(nowhere: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    nowhere.setenv("DATABASE_URL", "postgresql://kim:sesame@db.example/hourglass")
    nowhere.setenv("REDIS_URL", "redis://cache.example")
    for field in ("jwt_secret", "session_secret", "pin_pepper"):
        nowhere.setenv(variable_of(field), SECRET)
    return nowhere


def exit_code(*arguments: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


@pytest.mark.parametrize("command", [*COMMANDS, "demo"])
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert exit_code(command, "--help") == 0
    assert f"hourglass {command}" in capsys.readouterr().out


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--help") == 0
    text = capsys.readouterr().out
    assert all(f" {command} " in text for command in COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["up", "--port", "70000"],
        ["up", "--workers", "0"],
        ["token"],
        ["token", "--role", "king"],
        ["token", "--role", "parent"],
        ["simulate", "--viewers", "many"],
    ],
)
def test_wrong_usage_ends_with_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert exit_code(*arguments) == 2
    assert "Usage" in capsys.readouterr().err


def said(lines: str) -> list[str]:
    """The lines of a command on standard error, with the reasons of a service."""
    return [
        line.removeprefix("hourglass: ") if line.startswith("hourglass: ") else str(json.loads(line)["reason"])
        for line in lines.splitlines()
    ]


@pytest.mark.parametrize("command", ["api", "worker", "migrate", "config", "doctor", "token", "reconcile"])
def test_without_a_deployment_the_missing_settings_are_named(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert exit_code(command, *(["--role", "service"] if command == "token" else [])) == 1
    shown = capsys.readouterr()
    assert "DATABASE_URL: is not set" in said(shown.err)
    needs_the_database_alone = command == "migrate"
    assert ("HOURGLASS_JWT_SECRET: is not set" in said(shown.err)) is not needs_the_database_alone
    assert "Traceback" not in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(
    "arguments", [["doctor"], ["worker"], ["config"], ["token", "--role", "service"], ["simulate"]]
)
def test_a_folder_where_nothing_runs_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str]
) -> None:
    assert exit_code(*arguments, "--data-dir", str(tmp_path)) == 1
    assert said(capsys.readouterr().err) == [
        f"nothing runs in {tmp_path}; start it with: hourglass up --data-dir {tmp_path}"
    ]


@pytest.mark.usefixtures("configured")
def test_config_masks_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("config") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "DATABASE_URL=postgresql://kim:***@db.example/hourglass" in lines
    assert "HOURGLASS_JWT_SECRET=**********" in lines
    assert "HOURGLASS_WEEKEND_DAYS=5,6" in lines
    assert "HOURGLASS_METRICS_DIR=" in lines


def test_config_names_misspelt_variables(capsys: pytest.CaptureFixture[str], configured: pytest.MonkeyPatch) -> None:
    configured.setenv("HOURGLASS_WORKER", "4")
    assert exit_code("config", "--json") == 0
    assert "HOURGLASS_WORKER is not a setting" in capsys.readouterr().err


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.CAREGIVER])  # it has a device
def test_a_minted_token_is_accepted(capsys: pytest.CaptureFixture[str], role: Role) -> None:
    assert exit_code("token", "--role", role, "--account", ACCOUNT, "--minutes", "5") == 0
    token = capsys.readouterr().out.strip()
    now_s = now_ms() // 1000
    principal = Tokens(secret=SECRET.encode(), issuer="hourglass", audience="hourglass").verify(token, at_s=now_s)
    assert (principal.account_id, principal.role) == (ACCOUNT, role)
    assert 290 <= principal.expires_s - now_s <= 300


@pytest.mark.usefixtures("configured")
def test_a_token_needs_a_real_account_id(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("token", "--role", "parent", "--account", "the smiths") == 1
    assert capsys.readouterr().err == "hourglass: --account: 'the smiths' is not an account id (a UUID)\n"


def test_the_module_runs_too() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "app.cli", "--help"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert result.returncode == 0
    assert "Commands" in result.stdout


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    program = "import sys, app.cli; print(*sys.modules)"
    result = subprocess.run(  # noqa: S603  ourselves
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    heavy = {"fastapi", "uvicorn", "sqlalchemy", "redis", "asyncpg", "alembic", "pydantic", "prometheus_client"}
    assert heavy.isdisjoint(result.stdout.split())


@pytest.mark.parametrize("command", ["bench", "chaos"])
def test_without_the_lab_one_line_says_how_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    for module in [name for name in sys.modules if name == "app.lab" or name.startswith("app.lab.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "app.lab", None)  # how Python says: not there
    assert exit_code(command) == 1
    (line,) = said(capsys.readouterr().err)
    assert "pip install -e '.[lab]'" in line


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"hourglass {__version__}\n"
