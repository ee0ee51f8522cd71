"""The sockets of the gate: in folders that nobody else can write to, and never two at one place."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.commands import sockets
from cpc.commands.sockets import SocketError


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gs-") as name:  # short: a socket's path holds 107 bytes
        yield Path(name)


def test_a_socket_has_its_mode_and_its_folder_too(folder: Path) -> None:
    path = folder / "private" / "x.sock"
    with sockets.listen(path, mode=0o600, folder_mode=0o700):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700


def test_what_a_dead_process_left_is_replaced_and_what_lives_is_not(folder: Path) -> None:
    path = folder / "x.sock"
    sockets.listen(path, mode=0o660, folder_mode=0o755).close()
    assert path.exists()
    with sockets.listen(path, mode=0o660, folder_mode=0o755):
        with pytest.raises(SocketError, match="another process listens there"):
            sockets.listen(path, mode=0o660, folder_mode=0o755)
        connected = sockets.connect(path)
        assert connected is not None
        connected.close()
    assert sockets.connect(path) is None


def test_a_folder_that_everybody_can_write_to_is_refused(folder: Path) -> None:
    folder.chmod(0o777)
    with pytest.raises(SocketError, match="every user can write there"):
        sockets.listen(folder / "x.sock", mode=0o660, folder_mode=0o755)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(folder: Path) -> None:
    os.chown(folder, 65534, 65534)
    os.seteuid(1001)
    try:
        with pytest.raises(SocketError, match=r"another user|can't listen"):
            sockets.listen(folder / "x.sock", mode=0o660, folder_mode=0o755)
    finally:
        os.seteuid(0)


def test_a_path_that_is_too_long_is_an_error_with_words(folder: Path) -> None:
    with pytest.raises(SocketError, match="too long"):
        sockets.listen(folder / ("x" * 120), mode=0o660, folder_mode=0o755)


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        peer = sockets.peer_of(ours)
        assert (peer.uid, peer.pid) == (os.getuid(), os.getpid())


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077])
def test_the_umask_neither_opens_nor_closes_the_folders_of_the_sockets(folder: Path, umask: int) -> None:
    folder = folder / "run" / "cpc"
    old = os.umask(umask)
    try:
        private = sockets.listen(folder / "private" / "x.sock", mode=0o600, folder_mode=0o700)
        public = sockets.listen(folder / "commands.sock", mode=0o660, folder_mode=0o755)
    finally:
        os.umask(old)
    private.close()
    public.close()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode)
             for path in (folder, folder / "private", folder / "private" / "x.sock", folder / "commands.sock")}
    assert modes == {"cpc": 0o755, "private": 0o700, "x.sock": 0o600, "commands.sock": 0o660}
