"""PDUs outside the poll loop, in both directions: what fits is a value, everything else an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modbus_frames import ExceptionResponse, FrameError
from modbus_tcp_client import functions as f

# request as the specification's examples have it (V1.1b3, clauses 6.8, 6.16, 6.17, 6.18, 6.21), answer, what it means
EXAMPLES = [
    (f.mask_write(4, 0x00F2, 0x0025), "16000400f20025", "16000400f20025", None),
    (f.read_write_registers(3, 6, 14, [0xFF, 0xFF, 0xFF]), "1700030006000e00030600ff00ff00ff",
     "170c00fe0acd00010003000d00ff", [0xFE, 0xACD, 1, 3, 0xD, 0xFF]),
    (f.diagnostics(0, b"\xa5\x37"), "080000a537", "080000a537", b"\xa5\x37"),
    (f.diagnostics(11), "08000b0000", "08000b0102", b"\x01\x02"),
    (f.read_fifo_queue(0x04DE), "1804de", "180006000201b81284", [0x1B8, 0x1284]),
    (f.report_server_id(), "11", "110441424300", (b"ABC", False)),
    (f.identification(f.BASIC), "2b0e0100", "2b0e01010000010003414243",
     f.Identification(objects=((0, b"ABC"),), level=1)),
]
IDS = [pdu for _, pdu, _, _ in EXAMPLES]


@pytest.mark.parametrize(("question", "pdu", "answer", "value"), EXAMPLES, ids=IDS)
def test_examples_of_the_specification(question: f.Question[object], pdu: str, answer: str, value: object) -> None:
    assert question.pdu.hex() == pdu
    assert question.answer(bytes.fromhex(answer)) == value


@pytest.mark.parametrize(("question", "pdu", "answer", "value"), EXAMPLES, ids=IDS)
@given(data=st.data())
def test_an_answer_that_does_not_fit_is_an_error_and_nothing_else(
    question: f.Question[object], pdu: str, answer: str, value: object, data: st.DataObject
) -> None:
    whole = bytes.fromhex(answer)
    garbage = data.draw(
        st.binary(max_size=60) | st.binary(max_size=20).map(lambda tail: whole + tail)
        | st.integers(0, len(whole)).map(lambda n: whole[:n])
        | st.binary(max_size=40).map(lambda tail: whole[:1] + tail)
    )
    try:
        found = question.answer(garbage)
    except (FrameError, ExceptionResponse):
        return
    assert garbage[0] == whole[0]
    assert type(found) is type(value)


def test_an_exception_says_its_code() -> None:
    for question, _, _, _ in EXAMPLES:
        with pytest.raises(ExceptionResponse) as refused:
            question.answer(bytes((question.pdu[0] | 0x80, 2)))
        assert refused.value.code == 2


@pytest.mark.parametrize("call", [
    lambda: f.mask_write(0x10000, 0, 0), lambda: f.mask_write(0, -1, 0), lambda: f.diagnostics(4),
    lambda: f.diagnostics(0, b"\0"), lambda: f.read_write_registers(0, 126, 0, [1]),
    lambda: f.read_write_registers(0, 1, 0, [1] * 122), lambda: f.read_write_registers(0, 1, 65535, [1, 2]),
    lambda: f.read_write_registers(0, 1, 0, [0x10000]), lambda: f.identification(5), lambda: f.read_fifo_queue(-1),
])
def test_what_can_not_be_sent_is_refused(call: object) -> None:
    with pytest.raises(ValueError, match=r"allowed|silence|2 to 250"):
        call()  # type: ignore[operator]
