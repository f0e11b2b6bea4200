"""The environment is read once and completely, and every error names its variable."""

from pathlib import Path

import pytest

from app.settings.settings import Settings, SettingsError, is_given, load_settings, unknown_variables, variable_of

SECRET = "0123456789abcdef0123456789abcdef"
COMPLETE = {
    "DATABASE_URL": "postgresql://kim:sesame@db.example/hourglass",
    "REDIS_URL": "redis://:sesame@cache.example:6379/0",
    "HOURGLASS_JWT_SECRET": SECRET,
    "HOURGLASS_SESSION_SECRET": SECRET,
    "HOURGLASS_PIN_PEPPER": SECRET,
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A complete environment without other settings; tests change it."""
    for field in Settings.model_fields:
        monkeypatch.delenv(variable_of(field), raising=False)
    for name, value in COMPLETE.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def refusal() -> list[str]:
    with pytest.raises(SettingsError) as refused:
        load_settings()
    return str(refused.value).splitlines()


def test_a_complete_environment_needs_nothing_else() -> None:
    settings = load_settings()
    assert settings.database_url.get_secret_value() == COMPLETE["DATABASE_URL"]
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8000, 2)


@pytest.mark.parametrize("name", COMPLETE)
def test_a_missing_variable_is_named(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.delenv(name)
    assert refusal() == [f"{name}: is not set"]


@pytest.mark.parametrize("name", COMPLETE)
def test_an_empty_variable_counts_as_absent(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.setenv(name, "")
    assert refusal() == [f"{name}: is not set"]
    environment.setenv(name, COMPLETE[name])
    environment.setenv("HOURGLASS_METRICS_DIR", "")
    assert load_settings().metrics_dir is None


def test_every_problem_is_told_at_once(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HOURGLASS_JWT_SECRET", "short")
    environment.setenv("HOURGLASS_PORT", "http")
    environment.setenv("HOURGLASS_WEEKEND_DAYS", "5,7")
    assert [line.partition(":")[0] for line in refusal()] == [
        "HOURGLASS_JWT_SECRET",
        "HOURGLASS_WEEKEND_DAYS",
        "HOURGLASS_PORT",
    ]


def test_a_default_limit_is_one_that_a_parent_could_choose(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HOURGLASS_DEFAULT_WEEKDAY_LIMIT_MINUTES", "17")
    assert refusal() == ["HOURGLASS_DEFAULT_WEEKDAY_LIMIT_MINUTES: Input should be a multiple of 15"]


def test_a_refusal_does_not_repeat_a_secret(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HOURGLASS_JWT_SECRET", "too-short-and-secret")
    assert refusal() == ["HOURGLASS_JWT_SECRET: must have at least 32 characters"]


def test_lists_are_written_with_commas(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HOURGLASS_WEEKEND_DAYS", " 4, 5 ")
    environment.setenv("HOURGLASS_CORS_ORIGINS", "https://a.example,https://b.example")
    settings = load_settings()
    assert settings.weekend_days == (4, 5)
    assert settings.cors_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    ("field", "variable"),
    [
        ("jwt_secret", "HOURGLASS_JWT_SECRET"),
        ("database_url", "DATABASE_URL"),
        ("database_url", "HOURGLASS_DATABASE_URL"),
        ("redis_url", "REDIS_URL"),
    ],
)
def test_a_secret_may_come_from_a_file(
    environment: pytest.MonkeyPatch, tmp_path: Path, field: str, variable: str
) -> None:
    value = f"{COMPLETE[variable_of(field)]}-of-a-file"
    (tmp_path / "secret").write_text(f"{value}\n")
    environment.delenv(variable_of(field))
    environment.setenv(f"{variable}_FILE", str(tmp_path / "secret"))
    assert getattr(load_settings(), field).get_secret_value() == value
    assert is_given(field)


def test_a_secret_given_twice_is_refused(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    environment.setenv("HOURGLASS_PIN_PEPPER_FILE", str(tmp_path / "secret"))
    assert refusal() == ["HOURGLASS_PIN_PEPPER_FILE: HOURGLASS_PIN_PEPPER is set as well; keep one of the two"]


def test_a_secret_file_that_is_not_there_is_named(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.delenv("HOURGLASS_PIN_PEPPER")
    environment.setenv("HOURGLASS_PIN_PEPPER_FILE", str(tmp_path / "none"))
    assert refusal() == [f"HOURGLASS_PIN_PEPPER_FILE: cannot read {tmp_path / 'none'}: No such file or directory"]


def test_overrides_win(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HOURGLASS_PORT", "9000")
    settings = load_settings(port=9001, database_url="postgresql:///elsewhere")
    assert settings.port == 9001
    assert settings.database_url.get_secret_value() == "postgresql:///elsewhere"


def test_masked_shows_every_setting_and_no_secret() -> None:
    masked = load_settings().masked()
    assert set(masked) == {variable_of(field) for field in Settings.model_fields}
    assert masked["DATABASE_URL"] == "postgresql://kim:***@db.example/hourglass"
    assert masked["REDIS_URL"] == "redis://:***@cache.example:6379/0"
    text = str(masked)
    assert SECRET not in text
    assert "sesame" not in text


def test_a_misspelt_variable_is_found(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HOURGLASS_FLUSH_AGE", "30")
    environment.setenv("HOURGLASS_JWT_SECRET_FILE", "")
    assert unknown_variables() == ["HOURGLASS_FLUSH_AGE"]
