"""The Helm chart, rendered with many values: valid by the schemas of Kubernetes, and with the documented safeguards."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.domain.markets import Market, parse_markets
from app.settings.settings import Settings, variable_of
from scripts.helm import PROGRAM

kubernetes_validate = pytest.importorskip("kubernetes_validate")

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "hourglass"
VALUES = sorted(path.stem for path in (CHART / "ci").glob("*.yaml"))
VERSIONS = ("1.28", "1.34")
HELM = shutil.which("helm", path=f"{PROGRAM.parent}:{os.environ['PATH']}")  # noqa: TID251  as the shell finds it
pytestmark = pytest.mark.skipif(HELM is None, reason="helm is not installed")
_FOREIGN = {"ServiceMonitor", "PrometheusRule", "ExternalSecret"}
"""Kinds that operators bring; Kubernetes has no schema of them."""


def helm(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([str(HELM), *arguments], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603


def rendered(values: str, *options: str, version: str = "1.31") -> list[dict[str, Any]]:
    file = CHART / "ci" / f"{values}.yaml"
    done = helm("template", "demo", CHART, "--values", file, "--kube-version", f"{version}.0", *options)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def pods(documents: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod that would run, by the name of what makes it."""
    for document in documents:
        if document["kind"] in {"Deployment", "StatefulSet", "Job"}:
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]


@pytest.mark.parametrize("values", VALUES)
def test_helm_finds_no_fault(values: str) -> None:
    done = helm("lint", "--strict", CHART, "--values", CHART / "ci" / f"{values}.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("options", [(), ("--is-upgrade",)], ids=["install", "upgrade"])
def test_what_is_rendered_is_sound(values: str, version: str, options: tuple[str, ...]) -> None:
    documents = rendered(values, *options, version=version)
    assert len(documents) > 5
    for document in documents:
        if document["kind"] not in _FOREIGN:
            kubernetes_validate.validate(document, version, strict=True)
    names = [(document["kind"], document["metadata"]["name"]) for document in documents]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("values", VALUES)
def test_no_pod_has_rights_that_it_does_not_need(values: str) -> None:
    found = list(pods(rendered(values)))
    assert len(found) >= 3
    for name, pod in found:
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True, name
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
            assert "memory" in container["resources"]["limits"], name
            assert not container["image"].endswith(":latest"), name
            assert ":" in container["image"], name
            for variable in container.get("env", ()):
                is_secret = any(word in variable["name"] for word in ("SECRET", "PEPPER", "PASSWORD", "URL"))
                assert not is_secret or variable["name"].endswith(("_FILE", "_ENDPOINT")), variable["name"]


@pytest.mark.parametrize("values", VALUES)
def test_every_lasting_pod_is_probed(values: str) -> None:
    for name, pod in pods(rendered(values)):
        if pod.get("restartPolicy") != "OnFailure":
            assert all("readinessProbe" in each and "livenessProbe" in each for each in pod["containers"]), name


@pytest.mark.parametrize("values", VALUES)
def test_a_pod_has_the_time_that_it_needs_to_drain(values: str) -> None:
    by_name = dict(pods(rendered(values)))
    api = by_name["demo-hourglass-api"]
    [container] = api["containers"]
    env = {variable["name"]: variable["value"] for variable in container["env"]}
    waits = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    drains = int(env["HOURGLASS_DRAIN_SECONDS"]) + int(env["HOURGLASS_SHUTDOWN_SECONDS"])
    assert api["terminationGracePeriodSeconds"] > waits + drains
    probe = container["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] < int(env["HOURGLASS_DRAIN_SECONDS"])


@pytest.mark.parametrize("values", VALUES)
def test_every_variable_is_one_that_the_service_reads(values: str) -> None:
    known = {variable_of(name) for name in Settings.model_fields}
    for name, pod in pods(rendered(values)):
        if "postgres" in name or "valkey" in name:
            continue
        for variable in pod["containers"][0]["env"]:
            plain = variable["name"].removesuffix("_FILE")
            is_known = plain in known or variable["name"] in known
            assert is_known or plain.startswith("OTEL_"), (name, variable["name"])


@pytest.mark.parametrize("values", VALUES)
def test_what_selects_pods_selects_some(values: str) -> None:
    documents = rendered(values)
    labels = [
        d["spec"]["template"]["metadata"]["labels"]
        for d in documents
        if d["kind"] in {"Deployment", "StatefulSet", "Job"}
    ]
    services = [d["metadata"]["labels"] for d in documents if d["kind"] == "Service"]
    for document in documents:
        spec, among = document.get("spec", {}), labels
        if document["kind"] == "Service":
            wanted = spec["selector"]
        elif document["kind"] == "ServiceMonitor":
            wanted, among = spec["selector"]["matchLabels"], services
        elif document["kind"] in {"PodDisruptionBudget", "Deployment", "StatefulSet"}:
            wanted = spec["selector"]["matchLabels"]
        elif document["kind"] == "NetworkPolicy":
            wanted = spec["podSelector"]["matchLabels"]
        else:
            continue
        assert any(wanted.items() <= each.items() for each in among), document["metadata"]["name"]


def test_migrations_come_before_new_pods_at_an_upgrade_alone() -> None:
    def job(*options: str) -> dict[str, Any]:
        return next(document for document in rendered("sentinel", *options) if document["kind"] == "Job")

    assert "annotations" not in job()["metadata"]
    assert job("--is-upgrade")["metadata"]["annotations"]["helm.sh/hook"] == "pre-upgrade"
    [variable] = job()["spec"]["template"]["spec"]["containers"][0]["env"]
    assert variable["value"].endswith("migrate_database_url")  # a role that the service itself does not have


def _of(documents: list[dict[str, Any]], component: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A pod, and its only container."""
    pod = next(pod for name, pod in pods(documents) if component in name)
    return pod, pod["containers"][0]


@pytest.mark.parametrize(
    ("values", "config_map"), [("markets", "demo-hourglass-markets"), ("extras", "rules-by-country")]
)
@pytest.mark.parametrize("component", ["api", "worker"])
def test_the_markets_file_is_where_the_service_looks(values: str, config_map: str, component: str) -> None:
    documents = rendered(values)
    pod, container = _of(documents, component)
    looks_at = next(each["value"] for each in container["env"] if each["name"] == "HOURGLASS_MARKETS_FILE")
    mount = next(each for each in container["volumeMounts"] if each["name"] == "markets")
    volume = next(each["configMap"] for each in pod["volumes"] if each["name"] == "markets")
    [item] = volume["items"]
    assert looks_at == f"{mount['mountPath']}/{item['path']}"
    assert "subPath" not in mount, "Kubernetes never renews a single file"
    assert volume["name"] == config_map
    for document in documents:
        if document["kind"] == "ConfigMap" and document["metadata"]["name"] == config_map:
            markets = parse_markets(document["data"][item["key"]], Market())
            assert [market.name for market in markets] == ["ae", "no"]
            break
    else:
        assert values == "extras", "somebody else makes that one"


@pytest.mark.parametrize("values", VALUES)
def test_migrations_need_neither_markets_nor_extras(values: str) -> None:
    pod, container = _of(rendered(values), "migrate")
    assert {each["name"] for each in pod["volumes"]} == {"secrets", "tmp"}
    assert [each["name"] for each in container["env"]] == ["DATABASE_URL_FILE"]


def test_extras_reach_api_and_worker() -> None:
    documents = rendered("extras")
    for component in ("api", "worker"):
        pod, container = _of(documents, component)
        assert {"name": "HOURGLASS_OUTSIDE_MARKET_CLAIM", "value": "country"} in container["env"]
        assert {"name": "certificates", "configMap": {"name": "own-ca"}} in pod["volumes"]
        assert any(each["mountPath"] == "/etc/ssl/own" for each in container["volumeMounts"])


def test_the_network_policy_opens_what_the_arrangement_needs() -> None:
    def ports(values: str, component: str) -> set[int]:
        policy = next(
            d for d in rendered(values) if d["kind"] == "NetworkPolicy" and d["metadata"]["name"].endswith(component)
        )
        return {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}

    assert ports("sentinel", "api") == {53, 5432, 6379, 26379}
    assert ports("cluster", "worker") == {53, 5432, 6379, 4318}
    assert ports("sentinel", "migrate") == {53, 5432}
    assert not any(document["kind"] == "NetworkPolicy" for document in rendered("pgbouncer"))


def test_the_alerts_in_the_chart_are_those_of_the_folder() -> None:
    rules = next(document for document in rendered("own-servers") if document["kind"] == "PrometheusRule")
    folder = CHART.parents[1] / "monitoring" / "rules.yml"
    assert rules["spec"] == yaml.safe_load(folder.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "wrong",
    [
        "api.replicas=0",
        "redis.arrangement=pair",
        "settings.CORS_ORIGINS=x",
        "apis.replicas=3",
        "secrets.previous={x}",
        "markets.text=x",
        "extraEnv[0].value=x",
        "markets.file=x,markets.existingConfigMap=y",
    ],
)
def test_what_is_misspelt_is_refused(wrong: str) -> None:
    assert helm("template", "demo", CHART, "--kube-version", "1.31.0", "--set", wrong).returncode != 0
