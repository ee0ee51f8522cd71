"""Unix sockets of type SEQPACKET: a packet is a message, and the kernel says who sent it."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import stat
import struct
from pathlib import Path

from cpc.commands.decision import Peer

BACKLOG = 64
_CREDENTIALS = struct.Struct("3i")
"""struct ucred of unix(7): pid, uid, gid."""


class SocketError(Exception):
    """A socket can't be made; the text says why and what to do."""


def listen(path: Path, *, mode: int, folder_mode: int, group: int = -1) -> socket.socket:
    """A listening socket at `path`; what a dead process left there is replaced. SocketError where it can't be.

    The folder is made where it is missing; one that others could write to is refused, because they could put a socket
    of their own there.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        _make_folder(path.parent, folder_mode)
        _refuse_open_folder(path.parent)
        _remove_dead(path)
        old = os.umask(0o777 & ~mode)  # between bind and chmod nobody gets in
        try:
            listener.bind(str(path))
        finally:
            os.umask(old)
        os.chown(path, -1, group)
        path.chmod(mode)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except SocketError:
        listener.close()
        raise
    except OSError as error:
        listener.close()
        raise SocketError(f"{path}: can't listen: {error.strerror or error}; a folder that this user can write, named "
                          "in <directory> or CPC_COMMANDS") from error
    return listener


def connect(path: Path) -> socket.socket | None:
    """A connection to a socket of this user or root, not blocking; None where nobody listens, or somebody else.

    A full queue of connections (EAGAIN of unix(7)), as a stopped process has, is not waited for either.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.setblocking(False)
    try:
        made.connect(str(path))
        if credentials(made)[1] in (0, os.getuid()):
            return made
    except OSError:
        pass
    made.close()
    return None


def credentials(connection: socket.socket) -> tuple[int, int, int]:
    """pid, uid and gid of the process at the other end, as of when it connected (SO_PEERCRED of unix(7))."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(data)
    return pid, uid, gid


def peer_of(connection: socket.socket) -> Peer:
    """Who is at the other end."""
    pid, uid, _ = credentials(connection)
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return Peer(user=user, uid=uid, pid=pid)


def _make_folder(folder: Path, mode: int) -> None:
    """Make it where it is missing, with this mode and those above it with 0755, whatever the umask.

    Those whom a socket is for must get there, and nobody else may write there.
    """
    if folder.exists():
        return
    _make_folder(folder.parent, 0o755)
    try:
        folder.mkdir(mode=mode)
    except FileExistsError:
        return
    folder.chmod(mode)


def _refuse_open_folder(folder: Path) -> None:
    found = folder.stat()
    if found.st_mode & stat.S_IWOTH:
        raise SocketError(f"{folder}: every user can write there; a folder of mode 0755 or less")
    if found.st_uid not in (0, os.getuid()):
        raise SocketError(f"{folder}: belongs to another user, who could put a socket of his own there; a folder of "
                          "root's or of this user")


def _remove_dead(path: Path) -> None:
    """Remove a socket at which nobody listens; one that somebody has is an error."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    probe.setblocking(False)
    try:
        probe.connect(str(path))
    except BlockingIOError:  # its queue is full: a process that is stopped has it all the same
        pass
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        return
    finally:
        probe.close()
    raise SocketError(f"{path}: another process listens there; stop it, or use another namespace")
