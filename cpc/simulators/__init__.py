"""Simulated devices, made from endpoint files, point tables, register maps and NodeSet2 files; faults to order.

`ProtocolGatewaySimulator` is a whole plant, for tests and for `cpc simulate`.
"""

from cpc.simulators.faults import Fault, FaultList, OrderError
from cpc.simulators.gateway import ProtocolGatewaySimulator
from cpc.simulators.request_log import RequestLog, Seen

__all__ = ["Fault", "FaultList", "OrderError", "ProtocolGatewaySimulator", "RequestLog", "Seen"]
