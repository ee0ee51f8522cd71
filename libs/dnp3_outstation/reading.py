"""READ requests (clause 4.4.1): which events and which static points they ask for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dnp3_outstation.attributes import ALL, LIST, attribute_list
from dnp3_outstation.codes import IIN, Kind, Qualifier
from dnp3_outstation.database import Database, PointTable
from dnp3_outstation.detection import Detector
from dnp3_outstation.events import EventBuffer
from dnp3_outstation.headers import ObjectHeader
from dnp3_outstation.objects import DEADBANDS, EVENT_GROUPS, knows_event, knows_static
from dnp3_outstation.response import Response
from dnp3_outstation.writing import StaticPart

MOST_PARTS = 4096
"""Object headers of static points in one response; a request that asks for more is refused."""


class Reader:
    """Turns the object headers of a READ into a response."""

    def __init__(self, database: Database, detector: Detector, buffer: EventBuffer,
                 attributes: dict[int, bytes]) -> None:
        self._database = database
        self._detector = detector
        self._buffer = buffer
        self._attributes = attributes

    def read(self, headers: list[ObjectHeader], utc_ms: int, indications: int) -> Response:
        """Select what is asked for; what is not known is told and the rest is answered."""
        response = Response()
        for header in headers:
            response.indications |= self._header(header, response, utc_ms, indications)
        return response

    def _header(self, header: ObjectHeader, response: Response, utc_ms: int, indications: int) -> IIN:
        group, variation = header.group, header.variation
        known = knows_event(group, variation) if group in EVENT_GROUPS else knows_static(group, variation)
        if group == 60:
            result = self._class_data(header, response)
        elif group == 34:
            result = self._deadbands(header, response)
        elif group == 0:
            result = self._device_attributes(header, response)
        elif (group, variation) == (50, 1):
            result = _time(header, response, utc_ms)
        elif (group, variation) == (80, 1):
            result = _indications(header, response, indications)
        elif not known:
            result = IIN.OBJECT_UNKNOWN
        elif group in EVENT_GROUPS:
            result = self._events(header, response)
        else:
            table = self._database[Kind(group)]
            result = _static(header, table, response, offset_ms=self._detector.offset_ms)
        return result

    def _class_data(self, header: ObjectHeader, response: Response) -> IIN:
        """g60: v1 is all static data, v2 to v4 the events of class 1 to 3."""
        if not 1 <= header.variation <= 4:
            return IIN.OBJECT_UNKNOWN
        if header.variation == 1:
            if header.qualifier != Qualifier.ALL:
                return IIN.PARAMETER_ERROR
            response.static.extend(
                StaticPart(table, 0, len(table), offset_ms=self._detector.offset_ms)
                for table in self._database.tables.values() if len(table))
            return IIN.NONE
        if not (header.is_count or header.qualifier == Qualifier.ALL):
            return IIN.PARAMETER_ERROR
        response.events += self._buffer.select(classes=(header.variation - 1,), limit=header.limit)
        return IIN.NONE

    def _events(self, header: ObjectHeader, response: Response) -> IIN:
        if not (header.is_count or header.qualifier == Qualifier.ALL):
            return IIN.PARAMETER_ERROR
        variation = header.variation if header.group != 111 else 0
        response.events += self._buffer.select(kind=header.group, variation=variation, limit=header.limit)
        return IIN.NONE

    def _deadbands(self, header: ObjectHeader, response: Response) -> IIN:
        if header.variation and (34, header.variation) not in DEADBANDS:
            return IIN.OBJECT_UNKNOWN
        return _static(header, self._database[Kind.ANALOG_INPUT], response,
                       deadbands=self._detector.deadbands(Kind.ANALOG_INPUT))

    def _device_attributes(self, header: ObjectHeader, response: Response) -> IIN:
        """g0: index 0 is the standard's own set, the only one there is."""
        if not _asks_for_index_0(header):
            return IIN.PARAMETER_ERROR
        variation = header.variation
        if variation == LIST:
            wanted = {LIST: attribute_list(self._attributes)}
        elif variation == ALL:
            wanted = self._attributes
        elif variation in self._attributes:
            wanted = {variation: self._attributes[variation]}
        else:
            return IIN.OBJECT_UNKNOWN
        for number, value in wanted.items():
            response.objects.append(bytes([0, number, Qualifier.RANGE_8, 0, 0]) + value)
        return IIN.NONE


def _asks_for_index_0(header: ObjectHeader) -> bool:
    if header.indexes is not None:
        return bool(len(header.indexes) == 1 and header.indexes[0] == 0)
    return header.qualifier == Qualifier.ALL or (header.is_range and header.start == header.stop == 0)


def _static(header: ObjectHeader, table: PointTable, response: Response,
            deadbands: npt.NDArray[np.float64] | None = None, offset_ms: int = 0) -> IIN:
    """Points by range, list, count or all of them; PARAMETER_ERROR where some are not there."""
    variation = 0 if table.kind == Kind.OCTET_STRING else header.variation
    if len(response.static) >= MOST_PARTS:
        return IIN.PARAMETER_ERROR
    missing = False
    if header.indexes is not None:
        rows = table.rows_of(header.indexes)
        missing = bool((rows < 0).any()) or not len(rows)
        rows = rows[rows >= 0]
        part = StaticPart(table, 0, len(rows), variation, rows, header.qualifier, deadbands, offset_ms)
    elif header.is_range:
        first, stop = table.span(header.start, header.stop)
        missing = stop - first != header.count
        part = StaticPart(table, first, stop, variation, deadbands=deadbands, offset_ms=offset_ms)
    else:
        count = len(table) if header.limit is None else min(header.limit, len(table))
        part = StaticPart(table, 0, count, variation, deadbands=deadbands, offset_ms=offset_ms)
    if part.stop > part.first:
        response.static.append(part)
    return IIN.PARAMETER_ERROR if missing else IIN.NONE


def _time(header: ObjectHeader, response: Response, utc_ms: int) -> IIN:
    if header.is_range or header.is_list or header.limit == 0:
        return IIN.PARAMETER_ERROR
    response.objects.append(bytes([50, 1, Qualifier.COUNT_8, 1]) + utc_ms.to_bytes(6, "little"))
    return IIN.NONE


def _indications(header: ObjectHeader, response: Response, indications: int) -> IIN:
    if header.is_list or header.is_count or header.start != 0 or header.stop not in (-1, 15):
        return IIN.PARAMETER_ERROR
    response.objects.append(bytes([80, 1, Qualifier.RANGE_8, 0, 15]) + indications.to_bytes(2, "little"))
    return IIN.NONE
