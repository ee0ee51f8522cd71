"""One element of what a node holds, as it is sent: the IndexRange and the Variant (Part 4, clause 7.22)."""

from __future__ import annotations

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import variant_from_binary, variant_to_binary
from opcua_client.cursor import Cursor, Sample, Value
from opcua_client.datatypes import Wire
from opcua_client.writing import _Target, element

CASES = {
    "an array": (ua.Variant([1.0, 2.0, 3.0], ua.VariantType.Double), 2, 7.5, "2", [7.5]),
    "an array of octet strings": (ua.Variant([b"a", b"bc"], ua.VariantType.ByteString), 1, b"xyz", "1", [b"xyz"]),
    "octets": (ua.Variant(b"abc", ua.VariantType.ByteString), 1, 17, "1", b"\x11"),
    "a matrix": (ua.Variant([[1, 2, 3], [4, 5, 6]], ua.VariantType.Int16), 4, -5, "1,1", [[-5]]),
}


@pytest.mark.parametrize("case", CASES)
def test_an_element_goes_as_another_implementation_would_read_it(case: str) -> None:
    held, index, value, place, wanted = CASES[case]
    found = Cursor(variant_to_binary(held)).variant()
    target = _Target(wire=found.wire, sample=Sample(value=found, status=0), index=index)
    sent = variant_from_binary(Buffer(target.encode(value, array=False)))
    assert (target.index_range(), sent.Value, sent.VariantType) == (place, wanted, held.VariantType)
    assert element(found, index) is not None


@pytest.mark.parametrize("dimensions", [(2, 2), (0, 3), (-5, -1), (2, 4)])
def test_dimensions_that_do_not_fit_lead_to_no_other_element(dimensions: tuple[int, ...]) -> None:
    held = Value(wire=Wire.INT16, array=True, payload=b"", value=[1, 2, 3, 4, 5], dimensions=dimensions)
    target = _Target(wire=Wire.INT16, sample=Sample(value=held, status=0), index=4)
    assert target.index_range() == "4"
    assert variant_from_binary(Buffer(target.encode(-5, array=False))).Value == [-5]
