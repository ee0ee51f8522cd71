"""How much shared memory the segments of some files take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from endpoint_config import EndpointFile, Service

from cpc.service_segments import choose

if TYPE_CHECKING:
    from process_image import Point


def points_of(file: EndpointFile, interval: float) -> list[Point]:
    """The points of a file as its service would publish them, system points included."""
    from acquisition import service_points, system_points

    made: list[Point] = []
    if file.modbus:
        from modbus_tcp_client import image_points as modbus_points

        for server in file.modbus:
            made += [*modbus_points(server, interval), *system_points(server.alias)]
    if file.opcua:
        from opcua_client import image_points as opcua_points
        from opcua_client import server_points

        for entry in file.opcua:
            made += [*opcua_points(entry, interval), *server_points(entry)]
    if file.dnp3:
        from dnp3_master import image_points as dnp3_points

        for one in file.dnp3:
            made += [*dnp3_points(one, interval), *system_points(one.alias)]
    return [*made, *service_points()]


def service_bytes(files: Sequence[EndpointFile], interval: float, service: Service | None = None) -> int:
    """Bytes of all segments that a service makes of these files: one for each audience."""
    from process_image import segment_bytes

    known = service or Service(kind="")
    unique = {p.full_name: p for file in files for p in points_of(file, interval)}  # one alias twice: warned of
    shares = (choose(list(unique.values()), audience) for audience in known.audiences)
    return sum(segment_bytes(share, journal_entries=known.journal_entries) for share in shares if share)
