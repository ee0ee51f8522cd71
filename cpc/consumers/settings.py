"""From partition.xml to what one consumer is told: its settings, the segments it reads, its folder."""

from __future__ import annotations

from pathlib import Path

from endpoint_config import ConsumerSettings, Partition, load_consumer

from cpc.consumers.contract import Context, Refused
from cpc.names import SERVICES, segment_name
from cpc.state import state_folder


def context_for(config: Path, name: str, *, namespace: str | None = None) -> Context:
    """The context of the consumer `name`; raises ConfigError for a fault in the file, Refused where there is none."""
    partition, settings = load_consumer(config, name)
    if settings is None:
        raise Refused(f"{config}:0: no consumer {name!r}; name one that stands in the file")
    return make_context(partition, settings, namespace)


def make_context(
    partition: Partition, settings: ConsumerSettings, namespace: str | None = None,
) -> Context:
    """The same for settings that are known; `namespace` goes before what the file says."""
    space = partition.namespace if namespace is None else namespace
    return Context(
        name=settings.name, namespace=space, segments=segments_of(partition, settings, space),
        state=state_folder(partition, space) / settings.name, settings=settings, partition=partition)


def segments_of(partition: Partition, settings: ConsumerSettings, namespace: str) -> tuple[str, ...]:
    """The segments that it reads: those named, else the own segment of every service of the partition, else, in a
    file without services (they run elsewhere), those of every service there could be."""
    if settings.segments:
        return tuple(f"{namespace}_{name}" if namespace else name for name in settings.segments)
    kinds = [service.kind for service in partition.services] or SERVICES
    return tuple(segment_name(kind, namespace) for kind in kinds)
