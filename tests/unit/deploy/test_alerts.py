"""The alerts as Prometheus itself reads them: each fires when it should, and not before."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ALERTS = Path(__file__).parents[3] / "deploy" / "prometheus" / "alerts.yaml"
CASES = Path(__file__).parent / "alerts.test.yaml"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed: on Debian, apt-get install prometheus"
)


def promtool(*arguments: object) -> str:
    command = [str(PROMTOOL), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_prometheus_takes_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", ALERTS)


@needs_promtool
def test_each_alert_fires_when_it_should_and_not_before() -> None:
    assert "SUCCESS" in promtool("test", "rules", CASES)


def test_no_alert_is_without_a_case() -> None:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    cases = yaml.safe_load(CASES.read_text())["tests"]

    assert {rule["alert"] for rule in group["rules"]} == {case["name"] for case in cases}
