"""Controls of a DNP3 master, by the command gate, to a simulated device: opendnp3's master as the user."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from dnp3_served import wait_for
from gate_rig import GatePlant, gate_plant
from peers import free_port, wait_for_port, wait_until

dnp3 = pytest.importorskip("opendnp3", reason="peer absent: yadnp3; `make test` installs it")

MAP = """<dnp3-map><automatic>false</automatic>
  <point name="PLC/Pump"><type>binary output</type><index>1</index></point>
  <point name="PLC/Setpoint"><type>analog output</type><index>2</index></point>
  <point name="PLC/Mode"><type>analog output</type><index>3</index></point>
  <point name="PLC/Level"><type>analog input</type><index>4</index></point>
</dnp3-map>"""
RULES = """<command-rules>
  <rule name="masters"><issuer user="*" name="dnp3"/><point>PLC/Pump</point><point>PLC/Setpoint</point>
    <maximum>80</maximum><deadline>2</deadline></rule>
</command-rules>"""


class Listener(dnp3.IChannelListener):
    def OnStateChange(self, state: Any) -> None:
        pass


class Handler(dnp3.ISOEHandler):
    def BeginFragment(self, info: Any) -> None:
        pass

    def EndFragment(self, info: Any) -> None:
        pass

    def OnDeviceAttribute(self, *args: Any) -> None:
        pass

    def Process(self, info: Any, found: Any) -> None:
        pass


class Application(dnp3.IMasterApplication):
    def __init__(self) -> None:
        super().__init__()
        self.up = False

    def OnTaskComplete(self, info: Any) -> None:
        self.up = self.up or info.result.name == "SUCCESS"


class Master:
    def __init__(self, port: int) -> None:
        self.handler, self.application, self.listener = Handler(), Application(), Listener()
        self.manager = dnp3.DNP3Manager(1)
        retry = dnp3.ChannelRetry(dnp3.TimeDuration.Milliseconds(50), dnp3.TimeDuration.Milliseconds(500))
        self.channel = self.manager.AddTCPClient("c", dnp3.LogLevels.none(), retry,
                                                 [dnp3.IPEndpoint("127.0.0.1", port)], "", self.listener)
        config = dnp3.MasterStackConfig()
        config.link.LocalAddr, config.link.RemoteAddr = 1, 10
        config.master.responseTimeout = dnp3.TimeDuration.Seconds(5)
        self.master = self.channel.AddMaster("m", self.handler, self.application, config)
        self.master.Enable()

    def control(self, command: Any, index: int, *, select: bool = False) -> str:
        """The status that the master reports."""
        results: list[Any] = []
        (self.master.SelectAndOperate if select else self.master.DirectOperate)(command, index, results.append)
        wait_for(lambda: results, "a control")
        return str(results[0].to_list()[0].status.name)


@pytest.fixture(scope="module")
def field() -> Iterator[tuple[GatePlant, Master]]:
    port = free_port()
    with gate_plant(f"t{secrets.token_hex(4)}", rules=RULES, files={"map.xml": MAP},
                    more=f"<dnp3><map>map.xml</map><port>{port}</port></dnp3>") as plant:
        wait_for_port(port, timeout=30.0)
        master = Master(port)
        try:
            wait_for(lambda: master.application.up, "the master")
            yield plant, master
        finally:
            master.manager.Shutdown()


LATCH_ON = dnp3.ControlRelayOutputBlock(dnp3.OperationType.LATCH_ON)


def test_a_control_is_verified_at_the_device_before_the_master_is_told(field: tuple[GatePlant, Master]) -> None:
    plant, master = field
    before = len(plant.writes())
    assert master.control(LATCH_ON, 1, select=True) == "SUCCESS"
    assert master.control(dnp3.AnalogOutputDouble64(47.5), 2) == "SUCCESS"
    wait_until(lambda: len(plant.writes()) == before + 2)
    assert [entry["function"] for entry in plant.writes()[before:]] == [5, 16]


@pytest.mark.parametrize(("command", "index", "status"), [
    (dnp3.AnalogOutputDouble64(90.0), 2, "BLOCKED"),  # over the rule's maximum
    (dnp3.AnalogOutputDouble64(101.0), 2, "OUT_OF_RANGE"),  # over the point's own
    (dnp3.AnalogOutputInt32(3), 3, "NOT_AUTHORIZED"),  # no rule
    (dnp3.AnalogOutputInt32(3), 4, "NOT_SUPPORTED"),  # not writable
    (LATCH_ON, 77, "NOT_SUPPORTED"),
])
def test_what_is_not_allowed_has_its_status_and_writes_nothing(field: tuple[GatePlant, Master], command: Any,
                                                              index: int, status: str) -> None:
    plant, master = field
    before = len(plant.writes())
    assert master.control(command, index) == status
    assert len(plant.writes()) == before


def test_a_device_that_does_not_do_it_is_a_hardware_error(field: tuple[GatePlant, Master]) -> None:
    plant, master = field
    assert master.control(dnp3.AnalogOutputDouble64(20.0), 2) == "SUCCESS"
    plant.order("fault ignore_writes")
    try:
        assert master.control(dnp3.AnalogOutputDouble64(21.0), 2) == "HARDWARE_ERROR"
    finally:
        plant.order("clear")
