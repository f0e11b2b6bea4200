"""systemd units, compose and the image: sound, hardened, and without what the service does not need."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings.settings import Settings, variable_of

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
ANALYZE = shutil.which("systemd-analyze")


@pytest.mark.skipif(ANALYZE is None, reason="systemd is not installed")
def test_systemd_finds_no_fault_with_the_units(tmp_path: Path) -> None:
    for file in (ROOT / "deploy" / "systemd").iterdir():
        text = file.read_text(encoding="utf-8").replace("/opt/hourglass/bin/hourglass", sys.executable)
        (tmp_path / file.name).write_text(text, encoding="utf-8")
    units = [tmp_path / unit.name.replace("@", "@8000") for unit in UNITS]
    (tmp_path / "hourglass-api@.service").rename(tmp_path / "hourglass-api@8000.service")
    done = subprocess.run(  # noqa: S603
        [str(ANALYZE), "verify", "--man=no", *units], capture_output=True, text=True, timeout=60, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "hourglass" in line]
    assert (ours, done.returncode) == ([], 0)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_has_few_rights_and_settings_that_exist(unit: Path) -> None:
    text = unit.read_text(encoding="utf-8")
    for line in ("DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet="):
        assert f"\n{line}\n" in text
    known = {variable_of(name) for name in Settings.model_fields}
    for variable in re.findall(r"^Environment=(\w+)=", text, re.MULTILINE):
        assert variable.removesuffix("_FILE") in known
    credentials = set(re.findall(r"^LoadCredential=(\w+):", text, re.MULTILINE))
    assert set(re.findall(r"%d/(\w+)", text)) == credentials


def test_the_environment_file_has_settings_that_exist() -> None:
    known = {variable_of(name) for name in Settings.model_fields}
    text = (ROOT / "deploy" / "systemd" / "hourglass.env").read_text(encoding="utf-8")
    found = re.findall(r"^(\w+)=", text, re.MULTILINE)
    assert found
    assert set(found) <= known


def test_images_are_pinned_and_containers_bounded() -> None:
    compose: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    for name, service in compose["services"].items():
        assert "mem_limit" in service, name
        image = service["image"]
        assert image == "hourglass" or re.search(r":\d+\.\d+", image), f"{name}: {image} is not pinned"
    assert {"healthcheck"} <= set(compose["services"]["worker"])


def test_the_service_starts_without_what_the_image_leaves_out(tmp_path: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    left_out = [line for line in ignored if "/" in line and "*" not in line]
    for name in kept:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in left_out:
        shutil.rmtree(tmp_path / name, ignore_errors=True)
    assert not (tmp_path / "tests").exists()
    program = "import app.main, workers.scheduler, app.cli, app; print(app.__file__)"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path))
