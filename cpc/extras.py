"""Parts that need a package which a plain installation does not bring, and what to install for them."""

from __future__ import annotations

from importlib.util import find_spec

_PACKAGES = {"mqtt": ("paho", "paho-mqtt"), "dnp3-master": ("opendnp3", "yadnp3")}
"""Extra of the project to the module that it brings and the package that holds it."""
_SERVICES = {"mqtt": "mqtt", "dnp3": "dnp3-master"}
_CONSUMERS = {"mqtt": "mqtt", "mqtt_commands": "mqtt"}


def lacking_for_service(kind: str) -> str:
    """What a service of this kind lacks here and how to get it; empty where it lacks nothing.

    >>> lacking_for_service("modbus")
    ''
    """
    return _lacking(f"a service of kind {kind}", _SERVICES.get(kind))


def lacking_for_consumer(kind: str) -> str:
    """The same of a consumer, by its element in the partition file."""
    return _lacking(kind, _CONSUMERS.get(kind))


def _lacking(who: str, extra: str | None) -> str:
    if extra is None:
        return ""
    module, package = _PACKAGES[extra]
    if find_spec(module) is not None:
        return ""
    return f"{who} needs the package {package}, which is not installed; pip install 'cpc-partition[{extra}]'"
