"""infra/kubernetes: rendered by kustomize itself, and checked against the schemas of Kubernetes
and of the Dask operator. No cluster has run it.
"""

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from engine import PASSWORDS, ROOT
from jsonschema import Draft202012Validator, ValidationError

from quickdraw_core.training.config import HostsConfig

FOLDER = ROOT / "infra" / "kubernetes"
VERSIONS = ("1.31", "1.37")
"""Of Kubernetes: the first with all that is used (`podFailurePolicy`), and the newest known."""
OURS = "registry.example.com/quickdraw-workflow"
COMPOSE: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
Resource = dict[str, Any]


def has_kustomize() -> bool:
    if shutil.which("kubectl") is None:
        return False
    told = subprocess.run(["kubectl", "version", "--client"], capture_output=True, text=True)
    return "Kustomize Version" in told.stdout  # of older ones it knows no components


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kustomizations, with the passwords filled in as the page says."""
    if not has_kustomize():
        pytest.skip("no kubectl of 1.25 or later, which brings kustomize, is on this machine")
    copy = tmp_path_factory.mktemp("kubernetes") / "kubernetes"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("secrets.env"))
    example = (copy / "workflow" / "secrets.env.example").read_text()
    (copy / "workflow" / "secrets.env").write_text(re.sub(r"=$", "=secret", example, flags=re.M))
    return copy


def rendered(folder: Path, name: str) -> list[Resource]:
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder / name)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module")
def workflow(folder: Path) -> list[Resource]:
    return rendered(folder, "workflow")


@pytest.fixture(scope="module")
def training(folder: Path) -> list[Resource]:
    return rendered(folder, "train")


@pytest.fixture(scope="module")
def resources(workflow: list[Resource], training: list[Resource]) -> list[Resource]:
    return workflow + training


def of_kind(resources: list[Resource], kind: str) -> dict[str, Resource]:
    return {r["metadata"]["name"]: r for r in resources if r["kind"] == kind}


def pods(resources: list[Resource]) -> dict[str, tuple[dict[str, str], Resource]]:
    """Labels and specification of each kind of pod, by name; those of Dask as its operator makes
    them.
    """
    found = {}
    for resource in resources:
        name = resource["metadata"]["name"]
        if resource["kind"] == "DaskCluster":
            for component in ("scheduler", "worker"):
                labels = {"dask.org/cluster-name": name, "dask.org/component": component}
                found[f"{name}-{component}"] = (labels, resource["spec"][component]["spec"])
        elif resource["kind"] in ("Deployment", "StatefulSet", "Job"):
            template = resource["spec"]["template"]
            labels = dict(template["metadata"]["labels"])
            if resource["kind"] == "Job":
                labels["batch.kubernetes.io/job-name"] = name
            found[name] = (labels, template["spec"])
    return found


def containers(resources: list[Resource]) -> Iterator[tuple[str, Resource, Resource]]:
    """Name of the pod, its specification and a container, for each of them."""
    for name, (_, spec) in pods(resources).items():
        for container in [*spec.get("initContainers", ()), *spec["containers"]]:
            yield name, spec, container


def operators_schema(kind: str) -> Resource:
    """What the operator of dask-kubernetes takes; unlike its server, of no unknown field."""
    spec = importlib.util.find_spec("dask_kubernetes")  # not imported, which takes seconds
    assert spec is not None
    assert spec.submodule_search_locations is not None
    [package] = map(Path, spec.submodule_search_locations)
    [path] = package.glob(f"operator/deployment/helm/*/crds/{kind.lower()}.yaml")
    definition = yaml.load(path.read_text(), yaml.CSafeLoader)
    [version] = definition["spec"]["versions"]
    schema: Resource = version["schema"]["openAPIV3Schema"]
    _close(schema["properties"]["spec"])
    return schema


def _close(schema: Any) -> None:
    """Has a schema refuse what it does not name."""
    if not isinstance(schema, dict):
        return
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
        for part in schema["properties"].values():
            _close(part)
    _close(schema.get("items"))
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)


@pytest.mark.parametrize("version", VERSIONS)
def test_all_is_as_the_schemas_of_kubernetes_say(resources: list[Resource], version: str) -> None:
    assert kubernetes_validate.latest_version().startswith(VERSIONS[-1])
    for resource in resources:
        if resource["kind"] != "DaskCluster":
            kubernetes_validate.validate(resource, version, strict=True)
    for name, (labels, spec) in pods(resources).items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}}
        kubernetes_validate.validate(pod | {"spec": spec}, version, strict=True)


def test_dask_is_as_the_schema_of_its_operator_says(
    folder: Path, resources: list[Resource]
) -> None:
    validator = Draft202012Validator(operators_schema("DaskCluster"))
    [cluster] = of_kind(resources, "DaskCluster").values()
    validator.validate(cluster)
    [with_gpus] = of_kind(rendered(folder, "gpu"), "DaskCluster").values()
    validator.validate(with_gpus)
    [worker] = with_gpus["spec"]["worker"]["spec"]["containers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert worker["command"][-1] == "--resources=GPU=1"
    cluster = deepcopy(cluster)  # others look at it, too
    cluster["spec"]["worker"]["spec"]["containers"][0]["imagePull"] = "Always"
    with pytest.raises(ValidationError, match="imagePull"):
        validator.validate(cluster)


def test_a_field_that_does_not_exist_would_be_seen(training: list[Resource]) -> None:
    job = json.loads(json.dumps(of_kind(training, "Job")["train"]))
    job["spec"]["template"]["spec"]["subDomain"] = "train"
    with pytest.raises(kubernetes_validate.ValidationError, match="subDomain"):
        kubernetes_validate.validate(job, VERSIONS[0], strict=True)


def test_nothing_refers_to_what_is_not_there(resources: list[Resource]) -> None:
    """Claims, settings and secrets by their keys, and the ports of probes."""
    claims = set(of_kind(resources, "PersistentVolumeClaim"))
    for stateful in of_kind(resources, "StatefulSet").values():
        claims |= {c["metadata"]["name"] for c in stateful["spec"]["volumeClaimTemplates"]}
    keys = {
        "configMapKeyRef": {n: set(m["data"]) for n, m in of_kind(resources, "ConfigMap").items()},
        "secretKeyRef": {n: set(s["data"]) for n, s in of_kind(resources, "Secret").items()},
    }
    for name, spec, container in containers(resources):
        volumes = {volume["name"]: volume for volume in spec.get("volumes", ())}
        for mount in container.get("volumeMounts", ()):
            assert mount["name"] in volumes or mount["name"] in claims, name
        for volume in volumes.values():
            assert (
                volume.get("persistentVolumeClaim", {"claimName": "data"})["claimName"] in claims
            )
        for variable in container.get("env", ()):
            for kind, known in keys.items():
                reference = variable.get("valueFrom", {}).get(kind)
                if reference is not None and not reference.get("optional"):
                    assert reference["key"] in known[reference["name"]], (name, variable)
        for source in container.get("envFrom", ()):
            if "configMapRef" in source:
                assert source["configMapRef"]["name"] in keys["configMapKeyRef"]
        ports = {port["name"] for port in container.get("ports", ())}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            port = container.get(probe, {}).get("httpGet", {}).get("port")
            assert port is None or port in ports, (name, probe)


def test_services_lead_to_pods_and_have_the_names_of_compose(resources: list[Resource]) -> None:
    services = {n: s["spec"] for n, s in of_kind(resources, "Service").items()}
    for name, cluster in of_kind(resources, "DaskCluster").items():
        services[f"{name}-scheduler"] = cluster["spec"]["scheduler"]["service"]
    for name, service in services.items():
        [(_, spec)] = [
            pod
            for pod in pods(resources).values()
            if service["selector"].items() <= pod[0].items()
        ]
        open_there = {
            value
            for container in spec["containers"]
            for port in container.get("ports", ())
            for value in (port["name"], port["containerPort"])
        }
        for port in service.get("ports", ()):
            assert port.get("targetPort", port["port"]) in open_there, name
    assert set(services) - {"train"} <= set(COMPOSE["services"])


def test_what_runs_our_code_has_the_settings_of_compose(workflow: list[Resource]) -> None:
    compose = {
        name: re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", value)
        for part in ("x-telemetry", "x-ours")
        for name, value in COMPOSE[part].items()
        if value is not None
    }
    assert of_kind(workflow, "ConfigMap")["settings"]["data"] == compose


def test_the_secrets_are_those_of_compose_and_in_no_repository(workflow: list[Resource]) -> None:
    assert set(of_kind(workflow, "Secret")["secrets"]["data"]) == set(PASSWORDS)
    example = (FOLDER / "workflow" / "secrets.env.example").read_text()
    assert re.findall(r"^\w+=(.+)$", example, re.M) == []
    assert "secrets.env" in (ROOT / ".gitignore").read_text().splitlines()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored.index("infra/kubernetes") > ignored.index("!infra")


def test_a_pod_may_do_no_more_than_it_needs(resources: list[Resource]) -> None:
    namespace = of_kind(resources, "Namespace")["quickdraw"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, spec, container in containers(resources):
        assert spec["automountServiceAccountToken"] is False, name
        # Kubernetes' own variables of services, as MLFLOW_PORT=tcp://…, are settings of programs.
        assert spec["enableServiceLinks"] is False, name
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }, name
        assert container["resources"]["limits"]["memory"], name
        assert container["image"] in (f"{OURS}:slim", f"{OURS}:full", "postgres:16"), name
    assert COMPOSE["services"]["postgres"]["image"] == "postgres:16"


def test_the_commands_are_those_of_compose(workflow: list[Resource]) -> None:
    commands = {name: c["command"] for name, _, c in containers(workflow) if "command" in c}
    for name, ours in (("mlflow", "mlflow"), ("dask-scheduler", "dask-scheduler")):
        assert commands[ours] == COMPOSE["services"][name]["command"]
    assert commands["bootstrap"] == COMPOSE["services"]["bootstrap"]["command"]
    worker = " ".join(commands["prefect-worker"])
    assert worker == re.sub(
        r"\$\{\w+:-(\w+)\}", r"\1", COMPOSE["services"]["prefect-worker"]["command"]
    )
    from distributed.cli.dask_worker import main

    main.make_context("worker", commands["dask-worker"][2:])  # exits for an unknown option


def test_the_hosts_of_a_training_find_each_other(training: list[Resource]) -> None:
    job = of_kind(training, "Job")["train"]["spec"]
    service = of_kind(training, "Service")["train"]["spec"]
    [container] = job["template"]["spec"]["containers"]
    environment = {v["name"]: v.get("value", "1") for v in container["env"]}
    environment_module = pytest.importorskip("quickdraw_core.cluster.environment")
    launched = environment_module.find_launched(environment, lambda name: name)
    hosts = HostsConfig.model_validate(launched.hosts({}))
    assert (hosts.nodes, hosts.node_rank) == (job["completions"], 1)
    assert job["parallelism"] == hosts.nodes
    # The name that Kubernetes gives to the pod of index 0, before it is ready.
    assert hosts.rendezvous == f"train-0.{job['template']['spec']['subdomain']}:29400"
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"]
    [number] = [v for v in container["env"] if v["name"] == "PET_NODE_RANK"]
    assert "batch.kubernetes.io/job-completion-index" in str(number["valueFrom"])
    assert job["completionMode"] == "Indexed"


def test_an_image_is_named_in_one_place(folder: Path) -> None:
    path = folder / "images" / "kustomization.yaml"
    text = path.read_text()
    path.write_text(text.replace(OURS, "elsewhere.example/quickdraw"))
    try:
        for name in ("workflow", "train", "gpu"):
            images = {c["image"] for *_, c in containers(rendered(folder, name))}
            assert all(i.startswith(("elsewhere.example/", "postgres:")) for i in images), name
    finally:
        path.write_text(text)
