"""A plain installation says what it lacks before anything is polled, and how to get it."""

from __future__ import annotations

import json
from pathlib import Path

import peers
import pytest
from consumers import context
from endpoint_config import ConsumerSettings

from cpc import extras, service
from cpc.cli import main
from cpc.consumers import registry
from cpc.consumers.contract import Refused

CONFIG = peers.ROOT / "config"
PARTITION = f"""<partition>
<service kind="mqtt"><file>{CONFIG}/mqtt-sources.xml</file></service>
<service kind="dnp3"><file>{CONFIG}/dnp3-endpoints.xml</file></service>
<device alias="Feeder 7" site="North"/>
<mqtt/>
</partition>"""


@pytest.fixture
def plain(monkeypatch):
    """The interpreter as it would be without any extra."""
    monkeypatch.setattr(extras, "find_spec", lambda name: None)


@pytest.fixture
def partition(tmp_path) -> Path:
    path = tmp_path / "partition.xml"
    path.write_text(PARTITION)
    return path


@pytest.mark.usefixtures("plain")
def test_check_warns_by_line_of_what_can_not_run_here(partition, capsys):
    assert main(["check", str(partition), "--json"]) == 0
    warnings = json.loads(capsys.readouterr().out)["files"][0]["warnings"]
    said = {w["line"]: w["message"] for w in warnings}
    assert sorted(said) == [2, 3, 5]
    assert "pip install 'cpc-partition[mqtt]'" in said[2]
    assert "pip install 'cpc-partition[dnp3-master]'" in said[3]
    assert "paho-mqtt" in said[5]


def test_check_warns_of_nothing_where_all_is_installed_and_every_device_is_known(partition, capsys):
    main(["check", str(partition), "--json"])
    assert json.loads(capsys.readouterr().out)["files"][0]["warnings"] == []


@pytest.mark.usefixtures("plain")
def test_run_refuses_a_service_that_lacks_its_package(partition, capsys):
    assert main(["run", "--config", str(partition)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition("; ")[2] for line in lines] == [
        "pip install 'cpc-partition[mqtt]'", "pip install 'cpc-partition[dnp3-master]'"]


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("kind", ["mqtt", "dnp3"])
def test_a_producer_that_lacks_its_package_is_refused(kind):
    with pytest.raises(service.Refused, match="pip install"):
        service.import_manager(kind)


@pytest.mark.usefixtures("plain")
def test_a_consumer_that_lacks_its_package_is_refused(tmp_path):
    with pytest.raises(Refused, match=r"^mqtt: mqtt needs the package paho-mqtt.*cpc-partition\[mqtt\]"):
        registry.make(context(tmp_path, settings=ConsumerSettings(kind="mqtt", name="mqtt")))
