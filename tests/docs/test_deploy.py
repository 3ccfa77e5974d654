from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import yaml

from replicator.kinds import variants
from replicator.model.phase import Phase
from replicator.settings.load import load
from replicator.settings.settings import Settings, StreamSettings
from tests.docs.tables import ROOT, declared_metrics
from tests.docs.test_pages import ENVIRONMENT, parse

DEPLOY = ROOT / "deploy"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


def settings() -> Settings:
    return load(DEPLOY / "replicator.toml", ENVIRONMENT, variants())


def stateful_set() -> dict[str, Any]:
    [found] = [doc for doc in documents("kubernetes.yaml") if doc["kind"] == "StatefulSet"]
    return found


def container() -> dict[str, Any]:
    [found] = stateful_set()["spec"]["template"]["spec"]["containers"]
    return dict(found)


def seconds(text: str) -> int:
    assert text.endswith("s")
    return int(text[:-1])


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_one_migration_runs_in_one_pod() -> None:
    assert stateful_set()["spec"]["replicas"] == 1


def test_every_engine_waits_longer_than_the_drain_takes() -> None:
    drain = settings().stream.drain_timeout
    pod = stateful_set()["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > drain
    [compose] = documents("compose.yaml")
    assert seconds(compose["services"]["replicator"]["stop_grace_period"]) > drain


def test_probes_ask_for_what_the_daemon_serves_at_the_port_it_listens_on() -> None:
    port = int(settings().http.listen.rpartition(":")[2])
    assert [found["containerPort"] for found in container()["ports"]] == [port]
    for probe, path in (
        ("startupProbe", "/livez"),
        ("livenessProbe", "/livez"),
        ("readinessProbe", "/readyz"),
    ):
        assert container()[probe]["httpGet"] == {"path": path, "port": "http"}
    assert f"http://127.0.0.1:{port}/livez" in dockerfile()
    assert f"EXPOSE {port}" in dockerfile()
    [prometheus] = documents("prometheus.yml")
    [scrape] = prometheus["scrape_configs"]
    assert scrape["static_configs"] == [{"targets": [f"replicator:{port}"]}]


def test_the_state_lies_on_the_volume() -> None:
    folder = str(Path(settings().state.path).parent)
    mounts = {mount["name"]: mount["mountPath"] for mount in container()["volumeMounts"]}
    assert mounts["state"] == folder
    [compose] = documents("compose.yaml")
    assert f"state:{folder}" in compose["services"]["replicator"]["volumes"]
    assert f"VOLUME {folder}" in dockerfile()


def test_the_configuration_is_mounted_where_the_image_looks_for_it() -> None:
    [path] = re.findall(r"REPLICATOR_CONFIG=(\S+)", dockerfile())
    mounts = {mount["name"]: mount["mountPath"] for mount in container()["volumeMounts"]}
    assert mounts["config"] == str(Path(path).parent)
    [compose] = documents("compose.yaml")
    assert f"./replicator.toml:{path}:ro" in compose["services"]["replicator"]["volumes"]


def test_what_is_started_is_a_command_that_exists() -> None:
    parse(container()["args"])
    [compose] = documents("compose.yaml")
    parse(compose["services"]["replicator"]["command"])
    line = (ROOT / "Procfile").read_text(encoding="utf-8").partition(":")[2]
    parse(shlex.split(line)[1:])


def test_nothing_runs_as_root() -> None:
    pod = stateful_set()["spec"]["template"]["spec"]["securityContext"]
    assert pod["runAsNonRoot"]
    assert f"USER {pod['runAsUser']}:{pod['runAsGroup']}" in dockerfile()


def test_every_variable_of_the_configuration_is_given_or_has_a_default() -> None:
    text = (DEPLOY / "replicator.toml").read_text(encoding="utf-8")
    needed = set(re.findall(r"\$\{([A-Z_]+)", text))
    [compose] = documents("compose.yaml")
    assert needed == set(compose["services"]["replicator"]["environment"])


def test_every_alert_leads_to_a_runbook() -> None:
    [alerts] = documents("alerts.yml")
    for group in alerts["groups"]:
        for rule in group["rules"]:
            assert (ROOT / rule["annotations"]["runbook"]).exists(), rule["alert"]


# -- alerts


def rules() -> dict[str, str]:
    """Alert → expression."""
    [alerts] = documents("alerts.yml")
    return {
        rule["alert"]: rule["expr"] for group in alerts["groups"] for rule in group["rules"]
    }


def labels_of_metrics() -> dict[str, set[str]]:
    return {name: set(labels) for name, _, labels, _ in declared_metrics()}


def test_an_alert_selects_only_by_labels_and_values_that_its_metric_has() -> None:
    known = labels_of_metrics()
    for alert, expr in rules().items():
        for name, selector in re.findall(r"(replicator_[a-z_]+)(?:\{([^}]*)\})?", expr):
            assert name in known, alert
            for label, value in re.findall(r'(\w+)\s*=~?\s*"([^"]*)"', selector):
                assert label in known[name], f"{alert}: {name} has no label {label}"
                if label == "phase":
                    assert value in {phase.value for phase in Phase}, alert
        for grouping in re.findall(r"\bby \(([^)]*)\)", expr):
            for label in grouping.split(","):
                assert all(label.strip() in known[name] for name in known if name in expr), (
                    alert
                )


def test_the_alert_of_failing_writes_fires_for_a_store_that_is_away() -> None:
    """One writer, one try in the longest backoff: the slowest that errors can come."""
    expr = rules()["ReplicatorWriteErrors"]
    threshold = float(expr.rpartition(">")[2])
    assert threshold < 1 / StreamSettings().backoff_max
    window = re.search(r"\[(\d+)m\]", expr)
    assert window is not None
    # A rate needs two samples of the counter that differ, whatever the moment of the tries.
    assert int(window[1]) * 60 >= 2 * StreamSettings().backoff_max
