"""The configuration of Prometheus, its alarms, and the dashboard, by Prometheus' own tools."""

import json
import re
from pathlib import Path
from typing import Any

from config.metrics import COUNTERS, GAUGES, HISTOGRAMS
from tests.deploy.files import DEPLOY, alarms, expressions, metrics_of, run
from tests.docs.pages import DOCS, prose, section

FOLDER = DEPLOY / "prometheus"
RUNBOOK = DOCS / "runbook.md"


def panels() -> dict[str, list[str]]:
    """The expressions of each panel of the dashboard, by its title."""
    dashboard: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
    return {
        panel["title"]: [target["expr"] for target in panel["targets"]]
        for panel in dashboard["panels"]
        if panel["type"] != "row"
    }


def test_prometheus_takes_its_configuration() -> None:
    run("promtool", "check", "config", "--lint-fatal", "prometheus.yml", folder=FOLDER)


def test_each_alarm_fires_and_is_quiet_below_its_threshold() -> None:
    run("promtool", "test", "rules", "alerts_test.yml", folder=FOLDER)

    tested = re.findall(r'alertname="(\w+)"', (FOLDER / "alerts_test.yml").read_text(encoding="utf-8"))
    assert {*tested} == alarms().keys()


def test_prometheus_can_read_each_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [
        {"record": "panel", "labels": {"number": str(number)}, "expr": expression.replace("$__rate_interval", "1m")}
        for number, expression in enumerate(each for panel in panels().values() for each in panel)
    ]
    file = tmp_path / "panels.yml"
    # JSON is YAML, too.
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")

    run("promtool", "check", "rules", file)


def test_each_alarm_has_a_severity_and_a_page_of_the_runbook() -> None:
    for name, rule in alarms().items():
        assert re.search(r"severity: (critical|warning)\n", rule)
        assert re.search(r"summary: [A-Z].*[^.]\n", rule)
        assert f"runbook_url: docs/runbook.md#{name.lower()}\n" in rule
        assert section(RUNBOOK, name)


def test_each_page_of_the_runbook_is_of_an_alarm() -> None:
    pages = [
        heading for heading in re.findall(r"^## (.+)$", prose(RUNBOOK), re.MULTILINE) if heading.startswith("Todo")
    ]

    assert pages == [*alarms()]


def test_alarms_and_the_dashboard_name_series_that_exist_and_the_dashboard_shows_each_metric() -> None:
    histograms = {f"{name}_{suffix}": name for name in HISTOGRAMS for suffix in ("bucket", "count", "sum")}
    series = {**histograms, **{name: name for name in (*COUNTERS, *GAUGES)}}
    shown = {name for panel in panels().values() for each in panel for name in metrics_of(each)}
    alarming = {name for rule in alarms().values() for name in metrics_of(expressions(rule))}

    assert (shown | alarming) - series.keys() == set()
    assert {*series.values()} - {series[name] for name in shown} == set()
