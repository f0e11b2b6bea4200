"""The wheel, installed in an environment of its own away from the checkout: it has its migrations and its version."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import app
from app import __version__
from app.postgres_store.migrate import head
from tests.servers import Databases

ROOT = Path(app.__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        from hatchling.builders.wheel import WheelBuilder  # noqa: PLC0415  what builds the project may be missing
    except ImportError:
        pytest.skip("THE WHEEL IS NOT TESTED: hatchling is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return Path(built)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has the wheel, and from our own only the libraries."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)  # noqa: S603  fixed words
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    if subprocess.run([*pip, "--version"], check=False, capture_output=True).returncode != 0:  # noqa: S603  likewise
        pytest.skip("THE WHEEL IS NOT TESTED: this Python has no pip")
    python = folder / "bin" / "python"
    install = [*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True)  # noqa: S603  likewise
    (site,) = (folder / "lib").glob("python*/site-packages")
    ours = next(Path(entry) for entry in sys.path if entry.endswith("site-packages"))
    for library in ours.iterdir():
        is_checkout = library.suffix == ".pth" or "hourglass" in library.name
        if not is_checkout and not (site / library.name).exists():
            (site / library.name).symlink_to(library)
    return folder


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked. ``wheel`` has skipped where hatchling is missing."""
    del wheel
    from hatchling.builders.sdist import SdistBuilder  # noqa: PLC0415  likewise

    folder = tmp_path_factory.mktemp("sdist")
    (built,) = SdistBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with tarfile.open(built) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"hourglass-{__version__}"


def hourglass(installed: Path, *arguments: str, **variables: str) -> str:
    done = subprocess.run(  # noqa: S603  ourselves
        [installed / "bin" / "hourglass", *arguments],
        cwd=installed,
        env={"PATH": os.defpath, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_leaves_the_lab_out(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert not [name for name in names if name.startswith(("app/lab/", "tests/"))]
    assert "app/redis_store/lua/record.lua" in names


def test_the_sdist_builds_the_same_wheel(unpacked: Path, wheel: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from hatchling.builders.wheel import WheelBuilder;"
        "print(*WheelBuilder('.').build(directory=sys.argv[1], versions=['standard']))"
    )
    done = subprocess.run(  # noqa: S603  likewise
        [sys.executable, "-P", "-c", code, tmp_path], cwd=unpacked, capture_output=True, text=True, check=True
    )
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(done.stdout.strip()) as second:
        assert {entry.filename: entry.CRC for entry in first.infolist() if "RECORD" not in entry.filename} == {
            entry.filename: entry.CRC for entry in second.infolist() if "RECORD" not in entry.filename
        }


def test_it_says_its_version(installed: Path) -> None:
    assert hourglass(installed, "--version") == f"hourglass {__version__}\n"


def test_it_migrates_a_database(installed: Path, postgres: Databases) -> None:
    url = postgres.empty()
    hourglass(installed, "migrate", DATABASE_URL=url)
    assert postgres.execute("SELECT version_num FROM alembic_version", database=urlsplit(url).path[1:]) == head()
