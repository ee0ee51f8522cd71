"""The answer to a request, on a small store."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from modbus_frames import ExceptionCode, ExceptionResponse, Request, answer, data_bytes, read_request, write_single_coil


class Store:
    """Serves zeros below address 100; notes writes."""

    def __init__(self) -> None:
        self.written: list[Request] = []

    def _check(self, request: Request) -> None:
        if request.address + request.count > 100:
            raise ExceptionResponse(request.function, ExceptionCode.ILLEGAL_DATA_ADDRESS)

    def read(self, request: Request) -> bytes:
        self._check(request)
        return bytes(data_bytes(request.function, request.count))

    def write(self, request: Request) -> None:
        self._check(request)
        self.written.append(request)


def test_reads_writes_and_refusals_are_answered() -> None:
    store = Store()
    assert answer(read_request(3, 98, 2), store).hex() == "030400000000"
    assert answer(read_request(3, 99, 2), store).hex() == "8302"
    assert answer(write_single_coil(5, True), store) == write_single_coil(5, True)
    assert store.written[0].data == b"\xff\x00"
    assert answer(b"\x09", store).hex() == "8901"
    assert answer(read_request(3, 0, 1)[:-1] + b"\x00", store).hex() == "8303"


@given(st.binary(min_size=1, max_size=253))
def test_every_pdu_gets_a_well_formed_answer(pdu: bytes) -> None:
    reply = answer(pdu, Store())
    assert 2 <= len(reply) <= 253
    assert reply[0] & 0x7F == pdu[0] & 0x7F
