"""Which class a kind of consumer is; only the one that runs is imported."""

from __future__ import annotations

import importlib
from typing import Any

from endpoint_config import ConsumerSettings, OwnConsumer

from cpc.consumers.contract import Consumer, Context, Refused
from cpc.extras import lacking_for_consumer

KINDS: dict[str, str] = {
    "dnp3": "cpc.consumers.dnp3:Dnp3Consumer",
    "mqtt": "cpc.consumers.mqtt.publisher:MqttPublisher",
    "mqtt_commands": "cpc.consumers.mqtt_commands:MqttCommander",
}
"""Element of partition.xml to `module:class`; the contract suite runs on each."""


def make(context: Context) -> Consumer:
    """The consumer that an element of partition.xml asks for; raises Refused where there is no such class."""
    if lacking := lacking_for_consumer(context.settings.kind):
        raise Refused(f"{context.name}: {lacking}")
    place = _place(context.settings)
    made = load(place)(context)
    if not isinstance(made, Consumer):
        raise Refused(f"{context.name}: {place} is no consumer; a class with metrics, start, step, stop and health")
    return made


def _place(settings: ConsumerSettings) -> str:
    if isinstance(settings, OwnConsumer):
        return settings.module
    return KINDS[settings.kind]


def load(place: str) -> Any:
    """The class of `module:class`; raises Refused."""
    module, _, name = place.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise Refused(f"{place}: can't be imported: {error}; install it, or set PYTHONPATH to its folder") from error
    except AttributeError as error:
        raise Refused(f"{place}: {module} has no {name}; module:class") from error
