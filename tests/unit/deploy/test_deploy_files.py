"""What `deploy/` holds is valid, and says the same as the code."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import promql_parser
import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema

from shared.contract import QUEUES
from shared.queueing.outcome import Outcome
from tests.fixtures.metrics import exposed

DEPLOY = Path(__file__).parents[3] / "deploy"
KUBERNETES = "1.34"
#: Of other projects' schemas, which the package of Kubernetes' own does not hold.
FOREIGN = {"Kustomization", "ScaledObject", "TriggerAuthentication"}
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
PROBES = ("startup", "liveness", "readiness")
#: Variables of the servers' images and of Compose itself.
OTHERS_VARIABLES = {
    "POSTGRES_USER",
    "POSTGRES_PASSWORD",
    "POSTGRES_DB",
    "REDISCLI_AUTH",
    "VALKEY_PASSWORD",
    "RAG_WORKER_VERSION",
    # gunicorn.conf.py reads them
    "WEB_BIND",
    "WEB_CONCURRENCY",
}


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return loaded


def manifests() -> list[dict[str, Any]]:
    files = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    return [one for file in files for one in yaml.safe_load_all(file.read_text())]


def manifest(kind: str, name: str) -> dict[str, Any]:
    (found,) = [
        one for one in manifests() if one["kind"] == kind and one["metadata"]["name"] == name
    ]
    return found


def containers() -> Iterator[dict[str, Any]]:
    for one in manifests():
        if one["kind"] in {"Deployment", "Job"}:
            yield from one["spec"]["template"]["spec"]["containers"]


def commands() -> dict[str, list[list[str]]]:
    """Every command line, by the way of deployment."""
    found: dict[str, list[list[str]]] = {"compose": [], "kubernetes": [], "systemd": []}
    for service in compose()["services"].values():
        if isinstance(service.get("command"), list):
            found["compose"].append(service["command"])
        test = service.get("healthcheck", {}).get("test")
        if test and "rag-worker" in test:
            found["compose"].append(test[1:])
    for container in containers():
        found["kubernetes"].append(container.get("command") or container["args"])
        probes = [container.get(f"{kind}Probe", {}) for kind in PROBES]
        found["kubernetes"] += [one["exec"]["command"] for one in probes if "exec" in one]
    environments = [file.read_text() for file in sorted((DEPLOY / "systemd").glob("*.env"))]
    for unit in UNITS:
        line = re.search(r"^ExecStart=(.+)$", unit.read_text(), re.MULTILINE)
        assert line is not None, unit
        instances = environments if "$WORKER_ARGUMENTS" in line[1] else [""]
        for environment in instances:
            arguments = environment.strip().removeprefix("WORKER_ARGUMENTS=")
            text = (
                line[1].replace("$WORKER_ARGUMENTS", arguments).replace("/opt/rag-worker/bin/", "")
            )
            found["systemd"].append(shlex.split(text))
    return found


def served(lines: list[list[str]]) -> Counter[str]:
    return Counter(
        queue for line in lines if "-Q" in line for queue in line[line.index("-Q") + 1].split(",")
    )


def test_compose_is_valid() -> None:
    jsonschema.validate(compose(), get_builtin_schema("vendor.compose-spec"))


@pytest.mark.parametrize(
    "one",
    [one for one in manifests() if one["kind"] not in FOREIGN],
    ids=lambda one: f"{one['kind']}-{one['metadata']['name']}",
)
def test_each_manifest_is_valid(one: dict[str, Any]) -> None:
    kubernetes_validate.validate(one, KUBERNETES, strict=True)


@pytest.mark.parametrize("way", ["compose", "kubernetes", "systemd"])
def test_every_queue_is_served_once(way: str) -> None:
    assert served(commands()[way]) == Counter(QUEUES)


def test_the_image_serves_every_queue_by_itself() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    (command,) = [json.loads(line[4:]) for line in lines if line.startswith("CMD ")]
    assert served([command]) == Counter(QUEUES)


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    checked = subprocess.run(
        [hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_each_unit_is_valid(unit: Path, tmp_path: Path) -> None:
    # The program it starts is not installed where the tests run.
    text = unit.read_text()
    text = re.sub(r"/opt/rag-worker/bin/\w+", sys.executable, text)
    (tmp_path / unit.name).write_text(text)
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / unit.name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_every_command_exists() -> None:
    from worker.cli import rag

    lines = [line for lines in commands().values() for line in lines if line[0] == "rag-worker"]
    assert lines
    for line in lines:
        context, command, rest = (
            rag.make_context("rag-worker", ["--help"], resilient_parsing=True),
            rag,
            line[1:],
        )
        while rest and hasattr(command, "get_command"):
            found = command.get_command(context, rest[0])
            assert found is not None, line
            command, rest = found, rest[1:]
        known = {name for option in command.params for name in option.opts}
        assert {one for one in rest if one.startswith("--")} <= known, line


@pytest.mark.parametrize("name", ["worker-dataset", "worker-io"])
def test_a_worker_is_probed_by_what_answers_in_a_second(name: str) -> None:
    (worker,) = manifest("Deployment", name)["spec"]["template"]["spec"]["containers"]
    asked = {kind: worker[f"{kind}Probe"]["exec"]["command"][2:] for kind in PROBES}
    assert asked == {"startup": ["--live"], "liveness": ["--live"], "readiness": ["--ready"]}
    in_compose = compose()["services"][name]["healthcheck"]["test"]
    assert in_compose == ["CMD", "rag-worker", "health", "--live", "--restart"]


def test_flower_has_a_login_and_a_place_to_remember() -> None:
    assert "FLOWER_BASIC_AUTH" in compose()["services"]["flower"]["environment"]
    pod = manifest("Deployment", "flower")["spec"]["template"]["spec"]
    (flower,) = pod["containers"]
    (file,) = [one["value"] for one in flower["env"] if one["name"] == "FLOWER_DB"]
    (mount,) = [one for one in flower["volumeMounts"] if file.startswith(one["mountPath"] + "/")]
    (volume,) = [one for one in pod["volumes"] if one["name"] == mount["name"]]
    claim = volume["persistentVolumeClaim"]["claimName"]
    assert manifest("PersistentVolumeClaim", claim)["spec"]["resources"]


def test_every_variable_is_a_setting() -> None:
    example = (DEPLOY.parent / ".env.example").read_text()
    settings = set(re.findall(r"^#([A-Z][A-Z0-9_]+)=", example, re.MULTILINE))
    of_compose = set(re.findall(r"\$\{([A-Z_]+)", (DEPLOY / "compose.yaml").read_text()))
    for service in compose()["services"].values():
        of_compose |= set(service.get("environment", {}))
    assert of_compose - settings <= OTHERS_VARIABLES
    assert set(manifest("ConfigMap", "rag-worker")["data"]) <= settings


def test_what_runs_is_not_root_and_writes_nowhere_else() -> None:
    for container in containers():
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"], container["name"]
        assert not security["allowPrivilegeEscalation"], container["name"]
    assert re.search(r"^USER 10001$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", ["worker-dataset", "worker-io"])
def test_a_worker_has_time_to_hand_back_and_is_scaled_by_the_age_of_its_own_queues(
    name: str,
) -> None:
    from shared.settings import load_settings

    settings = load_settings(())
    pod = manifest("Deployment", name)["spec"]["template"]["spec"]
    grace = settings.delivery.delivery_shutdown_grace_seconds
    assert (
        pod["terminationGracePeriodSeconds"]
        > grace + settings.celery.celery_soft_shutdown_timeout_seconds
    )
    (worker,) = pod["containers"]
    (trigger,) = manifest("ScaledObject", name)["spec"]["triggers"]
    queues = re.search(r"queue IN \(([^)]+)\)", trigger["metadata"]["query"])
    assert queues is not None
    assert set(re.findall(r"'(\w+)'", queues[1])) == set(served([worker["args"]]))
    assert manifest("PodDisruptionBudget", name)["spec"]["selector"] == {
        "matchLabels": manifest("Deployment", name)["spec"]["template"]["metadata"]["labels"]
    }


def expressions() -> dict[str, str]:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())
    found = {rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"]}
    dashboard = json.loads((DEPLOY / "grafana" / "rag-worker.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            text = target["expr"].replace("$__rate_interval", "5m")
            found[f"{panel['title']} {target['refId']}"] = text
    return found


@pytest.mark.parametrize(("title", "text"), expressions().items(), ids=expressions())
def test_each_expression_can_be_read_and_names_metrics_that_there_are(
    title: str, text: str
) -> None:
    assert promql_parser.parse(text) is not None, title
    known = exposed()
    named = set(re.findall(r"\brag_worker_\w+", text))
    assert named
    assert named <= set(known)
    grouped = re.findall(r"\bby \(([^)]*)\)", text) + re.findall(r"\{([^}]*)\}", text)
    labels = {re.split("[=!~]", one)[0].strip() for part in grouped for one in part.split(",")}
    for name in named:
        assert labels <= {*known[name], "le", "instance"}, name


def test_every_metric_is_looked_at() -> None:
    text = " ".join(expressions().values())
    unused = {name for name in exposed() if not re.search(rf"\b{name}\b", text)}
    assert {name for name in unused if not name.endswith(("_sum", "_count"))} == set()


def test_the_legends_name_labels_that_there_are() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "rag-worker.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            grouped = ",".join(re.findall(r"\bby \(([^)]*)\)", target["expr"]))
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert label in grouped, panel["title"]


def test_the_table_of_metrics_says_the_same_as_the_code() -> None:
    page = (DEPLOY.parent / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| `(rag_worker_\w+)` \| (.*?) \|", page, re.MULTILINE)
    documented = {name: tuple(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    assert documented == {
        re.sub("_bucket$", "", name): labels
        for name, labels in exposed().items()
        if not name.endswith(("_sum", "_count"))
    }
    states = re.findall(
        r"^\| ((?:`[a-z_]+`(?:, )?)+) \|", page.split("| `state` |")[1], re.MULTILINE
    )
    assert {one for row in states for one in re.findall(r"`(\w+)`", row)} == set(Outcome)
