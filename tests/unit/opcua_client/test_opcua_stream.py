"""Chunks from a stream of bytes, and addresses from names."""

from __future__ import annotations

import asyncio
import random
import socket
import threading

import pytest
from opcua_client import names
from opcua_client.framing import LARGEST_CHUNK, BoundedProtocol


class Transport(asyncio.Transport):
    """Remembers whether it was aborted."""

    aborted = False

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


def protocol() -> tuple[BoundedProtocol, Transport, list[bytes]]:
    made, transport, seen = BoundedProtocol(), Transport(), []
    made.connection_made(transport)
    made._process_received_data = seen.append  # type: ignore[method-assign]
    return made, transport, seen


def chunk(size: int, fill: int = 7) -> bytes:
    return b"MSGF" + size.to_bytes(4, "little") + bytes([fill]) * (size - 8)


@pytest.mark.parametrize("seed", range(5))
def test_chunks_are_whole_however_the_stream_is_cut(seed: int) -> None:
    rng = random.Random(seed)
    chunks = [chunk(rng.choice((8, 9, 100, 70_000)), i) for i in range(20)]
    stream, (made, _, seen) = b"".join(chunks), protocol()
    while stream:
        cut = rng.choice((1, 7, 8, 500, 100_000))
        made.data_received(stream[:cut])
        stream = stream[cut:]
    assert seen == chunks


def test_byte_by_byte_gives_the_same() -> None:
    made, _, seen = protocol()
    for byte in chunk(9) + chunk(30):
        made.data_received(bytes([byte]))
    assert seen == [chunk(9), chunk(30)]


@pytest.mark.parametrize("size", [0, 7, LARGEST_CHUNK + 1, 2**32 - 1])
def test_a_length_that_was_not_agreed_on_ends_the_connection(size: int) -> None:
    made, transport, seen = protocol()
    made.data_received(b"MSGF" + size.to_bytes(4, "little") + bytes(100))
    assert transport.aborted
    assert seen == []


def test_a_number_is_its_own_address() -> None:
    assert asyncio.run(names.addresses("127.0.0.1")) == ["127.0.0.1"]
    assert asyncio.run(names.addresses("::1")) == ["::1"]


def test_a_name_that_hangs_gets_one_thread_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    over, asked = threading.Event(), []
    real = socket.getaddrinfo

    def hang(host: str, *args: object, **settings: object) -> object:
        if settings.get("flags") == socket.AI_NUMERICHOST:
            raise socket.gaierror
        asked.append(host)
        over.wait(10)
        return real("127.0.0.1", None, type=socket.SOCK_STREAM)

    async def ask() -> list[str]:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(names.addresses("plc"), 0.05)
        assert asked == ["plc"]
        over.set()
        return await names.addresses("plc")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    assert asyncio.run(ask()) == ["127.0.0.1"]
    assert not names._running


def test_an_unknown_name_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **settings: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(OSError, match="not known"):
        asyncio.run(names.addresses("nobody.invalid"))
