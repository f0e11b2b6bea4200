"""The player SDK: its own tests under node, size, package, types, and delivery by the service."""

import gzip
import json
import re
import shutil
import subprocess
from base64 import b64encode
from hashlib import sha256, sha384
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.sdk.router import PACKAGE, PREFIX, sdk_file, version
from tests.scenes.api import Api

TESTS = Path(__file__).parent
BUILT = PACKAGE / "hourglass-player.js"
MAX_BYTES = 10 * 1024
NODE, NPM = shutil.which("node"), shutil.which("npm")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed: the SDK's own tests did not run")
needs_npm = pytest.mark.skipif(NPM is None, reason="npm is not installed: the package was not tried")


def run(*command: str | Path, folder: Path, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  tools of the tests
        [str(word) for word in command], cwd=folder, capture_output=True, text=True, timeout=seconds, check=False
    )


def installed(*packages: str, folder: Path) -> None:
    """Install packages of the registry, or skip: it may be out of reach."""
    done = run(NPM or "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *packages, folder=folder)
    if done.returncode != 0:
        pytest.skip(f"the npm registry does not answer: {' '.join(packages)} were not tried")


@needs_node
@pytest.mark.parametrize("file", sorted(TESTS.glob("*.test.mjs")), ids=lambda file: file.name)
def test_under_node(file: Path) -> None:
    done = run(NODE or "node", "--test", "--test-reporter=spec", file, folder=TESTS)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"pass [1-9]", done.stdout), "no test ran"


def test_it_is_small() -> None:
    assert len(gzip.compress(BUILT.read_bytes(), 9)) <= MAX_BYTES


def test_it_was_built_from_its_source() -> None:
    digest = sha256((PACKAGE / "src" / BUILT.name).read_bytes()).hexdigest()
    banner = BUILT.read_text(encoding="utf-8").splitlines()[0]
    assert f"sha256 {digest}" in banner, "run `npm install && npm run build` in app/sdk/player"
    assert f"Hourglass player {version()}," in banner


def test_it_asks_for_nothing_that_televisions_of_2019_lack() -> None:
    """ES2018: no optional chaining, nullish coalescing, private or class fields."""
    code = BUILT.read_text(encoding="utf-8")
    assert not re.search(r"\?\.[a-zA-Z_$(\[]|\?\?|\bthis\.#|static\{|&&=|\|\|=", code)
    assert "import " not in code.partition("\n")[2], "it has no dependencies"


@needs_npm
def test_its_build_can_be_repeated(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "player", ignore=shutil.ignore_patterns("node_modules"))
    manifest = json.loads((PACKAGE / "package.json").read_text(encoding="utf-8"))
    folder = tmp_path / "player"
    done = run(NPM or "npm", "install", "--no-audit", "--no-fund", folder=folder)
    if done.returncode != 0:
        pytest.skip(f"the npm registry does not answer: {manifest['devDependencies']} was not tried")
    built = run(NPM or "npm", "run", "build", folder=folder)
    assert built.returncode == 0, built.stderr
    assert (folder / BUILT.name).read_bytes() == BUILT.read_bytes()


@needs_npm
@needs_node
def test_its_package_installs_into_an_empty_folder(tmp_path: Path) -> None:
    packed = run(NPM or "npm", "pack", "--json", "--pack-destination", tmp_path, folder=PACKAGE)
    assert packed.returncode == 0, packed.stderr
    report = json.loads(packed.stdout)[0]
    assert {file["path"] for file in report["files"]} == {
        "LICENSE", "README.md", "package.json", "hourglass-player.js", "hourglass-player.d.ts",
        "src/hourglass-player.js",
    }  # fmt: skip
    home = tmp_path / "home"
    home.mkdir()
    (home / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    tarball = tmp_path / report["filename"]
    done = run(NPM or "npm", "install", "--offline", "--no-audit", "--no-fund", tarball, folder=home)
    assert done.returncode == 0, done.stderr
    told = run(
        NODE or "node",
        "--input-type=module",
        "-e",
        "import {VERSION, HourglassPlayer} from 'hourglass-player'; console.log(VERSION, typeof HourglassPlayer)",
        folder=home,
    )
    assert told.stdout.split() == [version(), "function"], told.stderr


USE = """
import { HourglassPlayer, type HourglassState } from "hourglass-player";
declare const video: HTMLVideoElement;
const options = { url: "", token: async () => "t", profileId: "p", deviceId: "d" };
const player = new HourglassPlayer({ ...options, deviceType: "tv" });
player.attach(video, { titleId: "film" });
const tell = (minutes: number | null) => console.log(minutes);
const stop: () => void = player.on("warning", (warning) => tell(warning.minutes));
player.on("update", (state: HourglassState) => console.log(state.remainingSeconds));
// @ts-expect-error there is no such event
player.on("nothing", () => {});
// @ts-expect-error a token is needed
new HourglassPlayer({ url: "", profileId: "p", deviceId: "d" });
// @ts-expect-error not a kind of device
new HourglassPlayer({ url: "", token: () => "t", profileId: "p", deviceId: "d", deviceType: "fridge" });
stop();
"""


@needs_npm
def test_its_types_hold_what_the_readme_shows(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    installed("typescript@5.9.3", folder=tmp_path)
    shutil.copytree(PACKAGE, tmp_path / "node_modules" / "hourglass-player")
    (tmp_path / "use.ts").write_text(USE, encoding="utf-8")
    options = ["--strict", "--noEmit", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom"]
    done = run(tmp_path / "node_modules" / ".bin" / "tsc", *options, "use.ts", folder=tmp_path)
    assert done.returncode == 0, done.stdout


def test_the_declared_events_are_those_that_are_emitted() -> None:
    source = (PACKAGE / "src" / BUILT.name).read_text(encoding="utf-8")
    types = (PACKAGE / "hourglass-player.d.ts").read_text(encoding="utf-8")
    events = types[types.index("interface HourglassEvents") :].partition("\n}")[0]
    declared = set(re.findall(r"^  (\w+):", events, re.MULTILINE))
    emitted = set(re.findall(r"\b_say\(\"(\w+)\"", source)) | set(re.findall(r"\b_emit\(\"(\w+)\"", source))
    assert declared == emitted | {"play", "pause"}


async def _get(api: Api, path: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=api.http._transport, base_url="http://test", headers=headers) as client:
        return await client.get(path)


async def test_it_is_served_to_every_page(api: Api) -> None:
    latest = await _get(api, f"{PREFIX}/hourglass-player.js")
    pinned = await _get(api, f"{PREFIX}/{version()}/hourglass-player.js")
    for answer in (latest, pinned):
        assert (answer.status_code, answer.content) == (200, BUILT.read_bytes())
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        assert answer.headers["content-encoding"] == "gzip"
    assert "immutable" in pinned.headers["cache-control"]
    assert "immutable" not in latest.headers["cache-control"]
    plain = await _get(api, f"{PREFIX}/hourglass-player.js", **{"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == latest.content
    again = await _get(api, f"{PREFIX}/hourglass-player.js", **{"If-None-Match": latest.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_its_version_and_integrity_can_be_asked(api: Api) -> None:
    facts: dict[str, Any] = (await _get(api, f"{PREFIX}/version.json")).json()
    integrity = "sha384-" + b64encode(sha384(BUILT.read_bytes()).digest()).decode()
    assert facts == {
        "version": version(), "minimum": "1.0.0", "message": None,
        "url": f"/sdk/v1/{version()}/hourglass-player.js", "integrity": integrity,
    }  # fmt: skip
    assert (await _get(api, facts["url"])).status_code == 200
    assert sdk_file(BUILT.name).integrity == integrity


@pytest.mark.parametrize(
    "path",
    ["/package.json", "/src/hourglass-player.js", "/0.9.0/hourglass-player.js", "/..%2frouter.py", "/", "/build.js"],
)
async def test_nothing_else_is_served(api: Api, path: str) -> None:
    answer = await _get(api, PREFIX + path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
