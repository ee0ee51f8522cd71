"""The gate's end of a line, played by a test: a real socket, and whatever the test says."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from command_channel import Answer, Command, Status, decode_command, encode_answer


class Far:
    """The gate's end, as the test plays it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "commands.sock"
        self.lines: list[socket.socket] = []
        self.listen()

    def listen(self) -> None:
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(self.path))
        self.listener.listen(0)
        self.listener.settimeout(5.0)

    def accept(self) -> None:
        connection, _ = self.listener.accept()
        connection.settimeout(5.0)
        self.lines.append(connection)

    def hear(self) -> Command:
        return decode_command(self.lines[-1].recv(65536))

    def heard_nothing(self) -> bool:
        self.lines[-1].setblocking(False)
        try:
            self.lines[-1].recv(65536)
        except BlockingIOError:
            return True
        finally:
            self.lines[-1].settimeout(5.0)
        return False

    def say(self, request_id: str, status: Status, message: str = "") -> None:
        self.lines[-1].send(encode_answer(Answer(request_id=request_id, status=status, message=message)))

    def crash(self) -> None:
        """As a killed process leaves it: the socket file stays."""
        for one in (*self.lines, self.listener):
            one.close()
        self.lines.clear()
        self.path.unlink()

    def close(self) -> None:
        for one in (*self.lines, self.listener):
            one.close()


@contextmanager
def far_end() -> Iterator[Far]:
    """A gate's socket in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="gl-"))  # short: the path of a Unix socket holds 107 bytes
    made = Far(folder)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder)
