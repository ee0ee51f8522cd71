"""Simulated devices, made from endpoint files, point tables, register maps and NodeSet2 files; faults to order.

`ProtocolGatewaySimulator` is a whole plant, for tests and for `cpc simulate`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cpc.simulators.faults import Fault, FaultList, OrderError
    from cpc.simulators.gateway import ProtocolGatewaySimulator
    from cpc.simulators.request_log import RequestLog, Seen

__all__ = ["Fault", "FaultList", "OrderError", "ProtocolGatewaySimulator", "RequestLog", "Seen"]

_PLACES = {"Fault": "faults", "FaultList": "faults", "OrderError": "faults", "ProtocolGatewaySimulator": "gateway",
           "RequestLog": "request_log", "Seen": "request_log"}


def __getattr__(name: str) -> object:
    """Import at the first use: the process of a simulator must be tied to its parent before anything heavy comes in."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
