"""Who may log in to a simulated OPC UA server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.user_managers import UserManager
from endpoint_config import OpcUaServer


class OnlyUser(UserManager):
    """Takes the user of the entry, and nobody else."""

    def __init__(self, entry: OpcUaServer) -> None:
        self._entry = entry
        self.certificate = b""
        """Of a user who logs in by one, DER."""

    def get_user(self, iserver: Any, username: str | None = None, password: str | bytes | None = None,
                 certificate: Any = None) -> User | None:
        """The user if name and password (or certificate) are the entry's, or it has none; None = refused."""
        del iserver
        user = User(role=UserRole.User, name=username)
        if self.certificate:
            return replace(user, name="certificate") if certificate == self.certificate else None
        if not self._entry.username:
            return user
        wanted = self._entry.password.reveal() if self._entry.password is not None else ""
        given = password.decode() if isinstance(password, bytes) else password or ""
        return user if (username, given) == (self._entry.username, wanted) else None
