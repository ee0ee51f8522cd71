"""How an OPC UA connection is secured, as its entry says, and what is weak or missing in it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from .models import Secret, SecurityMode
from .values import Entry, has_variable, resolve

MOST_PASSWORD = 4096
"""Bytes of a password file that are read at most."""

_DEPRECATED = {"SecurityPolicyBasic128Rsa15", "SecurityPolicyBasic256"}
_FILES = ("server_certificate", "client_certificate", "client_private_key", "user_certificate", "user_private_key")
PKI = "pki"
"""Folder beside the endpoint file whose certificates count where neither the entry nor the partition names another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Security:
    """The `security` element and what belongs to it, paths resolved."""

    policy: str = "SecurityPolicyNone"
    mode: SecurityMode = SecurityMode.NONE
    server_certificate: Path | None = None
    client_certificate: Path | None = None
    client_private_key: Path | None = None
    trust_folder: Path | None = None
    pki: Path | None = None
    """The trust folder, or what stands in for it."""
    waive_host_name: bool = False
    waive_dates: bool = False
    waive_revocation_list: bool = False
    username: str = ""
    password: Secret | None = None
    allow_unencrypted_password: bool = False
    user_certificate: Path | None = None
    user_private_key: Path | None = None


def read_security(entry: Entry, server: Entry) -> Security:
    """Read the `security` element `entry` of the `server` element, and check it."""
    mode = entry.texts.get("mode", "")
    security = Security(
        policy=entry.texts.get("policy", "SecurityPolicyNone"),
        mode=SecurityMode(mode) if mode in list(SecurityMode) else SecurityMode.NONE,
        server_certificate=entry.path("server_certificate"),
        client_certificate=entry.path("client_certificate"),
        client_private_key=entry.path("client_private_key"),
        trust_folder=server.path("trust_folder"),
        pki=server.path("trust_folder") or entry.report.pki or resolve(entry.report.file, PKI),
        waive_host_name=server.flag("waive_host_name"),
        waive_dates=server.flag("waive_dates"),
        waive_revocation_list=server.flag("waive_revocation_list"),
        username=entry.expanded("username"),
        password=read_password(entry, server),
        allow_unencrypted_password=server.flag("allow_unencrypted_password"),
        user_certificate=entry.path("user_certificate"),
        user_private_key=entry.path("user_private_key"),
    )
    _check_policy(entry, security)
    _check_files(entry, server, security)
    _check_user(entry, security)
    return security


def read_password(entry: Entry, server: Entry) -> Secret | None:
    text, file = entry.texts.get("password", ""), server.path("password_file")
    if text and file is not None:
        server.fault("password_file", "password_file and password stand both; password_file alone")
        return None
    if file is not None:
        return _from_file(server, file)
    if not text:
        return None
    if not has_variable(text):
        entry.warn("password", "the password stands in the file; ${VARIABLE} of the environment, or password_file")
        return Secret(value=entry.expanded("password"))
    value = entry.expanded("password")
    return Secret(value=value, source=text) if value else None


def _from_file(server: Entry, file: Path) -> Secret | None:
    """The first line of a file; the file's mode is looked at, its content is never shown."""
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            server.fault("password_file", f"password_file {file} is not a file; a file whose first line "
                         "is the password")
            return None
        with file.open("rb") as stream:
            lines = stream.read(MOST_PASSWORD).decode("utf-8").splitlines()
    except OSError as error:
        server.fault("password_file", f"password_file {file} can't be read: {error.strerror}; a readable file whose "
                     "first line is the password")
        return None
    except UnicodeDecodeError:
        server.fault("password_file", f"password_file {file} is not UTF-8 text; a file whose first "
                     "line is the password")
        return None
    if not lines or not lines[0]:
        server.fault("password_file", f"password_file {file} is empty; a file whose first line is the password")
        return None
    if status.st_mode & 0o007:
        server.warn("password_file", f"password_file {file} is open to every user; mode 0600 or 0640")
    return Secret(value=lines[0], source=f"file:{file}")


def _check_policy(entry: Entry, security: Security) -> None:
    policy, mode = security.policy, security.mode
    if policy == "SecurityPolicyNone":
        if mode is not SecurityMode.NONE:
            entry.fault("mode", f"mode {mode} with SecurityPolicyNone; mode None, or a policy such as "
                        "SecurityPolicyBasic256Sha256")
        else:
            entry.warn("policy", "SecurityPolicyNone: values can be read and forged on the way; "
                       "SecurityPolicyBasic256Sha256 or newer with SignAndEncrypt")
        return
    if mode is SecurityMode.NONE:
        entry.fault("mode", f"mode None with {policy}; Sign or SignAndEncrypt")
    if policy in _DEPRECATED:
        entry.warn("policy", f"{policy} is deprecated and weak; SecurityPolicyBasic256Sha256, "
                   "SecurityPolicyAes128Sha256RsaOaep or SecurityPolicyAes256Sha256RsaPss")


def _check_files(entry: Entry, server: Entry, security: Security) -> None:
    certificate, key = security.client_certificate, security.client_private_key
    if certificate and not key:
        entry.fault("client_certificate", "client_certificate without client_private_key; both")
    elif key and not certificate:
        entry.fault("client_private_key", "client_private_key without client_certificate; both")
    elif security.policy != "SecurityPolicyNone" and not certificate and not _has_own(security.pki):
        entry.fault("policy", f"{security.policy} without client_certificate and client_private_key; both, or a "
                    f"pair in {security.pki}/own: cpc certs make --pki {security.pki}")
    _check_folder(entry, server, security)
    for tag in _FILES:
        _check_there(entry, tag, getattr(security, tag))
    for tag in ("client_private_key", "user_private_key"):
        found: Path | None = getattr(security, tag)
        if found and _open_to_all(found):
            entry.warn(tag, f"{tag} {found} is open to every user; mode 0600 or 0640")


def _has_own(folder: Path | None) -> bool:
    """Whether a trust folder holds a certificate and a key of our own; whether they fit is seen when connecting."""
    try:
        return folder is not None and all(any((folder / "own" / part).iterdir()) for part in ("certs", "private"))
    except OSError:
        return False


def _check_folder(entry: Entry, server: Entry, security: Security) -> None:
    """A named folder that is missing is told by its line, the default one only where nothing else is trusted."""
    folder = security.pki
    if folder is None or os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        return
    if server.texts.get("trust_folder"):
        server.warn("trust_folder", f"trust_folder {folder} is not there; a folder with trusted/certs")
    elif not security.server_certificate and security.policy != "SecurityPolicyNone":
        entry.warn("policy", f"neither server_certificate nor trust_folder, and {folder} is not there: no server is "
                   f"trusted and none will be connected; one of the two, or cpc certs make --pki {folder}")


def _check_there(entry: Entry, tag: str, path: Path | None) -> None:
    """A missing certificate is a warning: it may come later, and until then the device is Bad with a reason."""
    if path is None:
        return
    try:
        path.stat()
    except OSError as error:
        entry.warn(tag, f"{tag} {path}: {(error.strerror or str(error)).lower()}; a readable certificate or key file")


def _open_to_all(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & 0o007)
    except OSError:
        return False


def _check_user(entry: Entry, security: Security) -> None:
    if entry.texts.get("password") and not entry.texts.get("username"):
        entry.fault("password", "password without username; both, or neither for an anonymous session")
    certificate, key = security.user_certificate, security.user_private_key
    if certificate and not key:
        entry.fault("user_certificate", "user_certificate without user_private_key; both")
    elif key and not certificate:
        entry.fault("user_private_key", "user_private_key without user_certificate; both")
    if certificate and security.username:
        entry.fault("user_certificate", "user_certificate and username stand both; one user")
    if security.username and security.policy == "SecurityPolicyNone":
        entry.warn("username", "a user over SecurityPolicyNone: the password may go in plain text; "
                   "SecurityPolicyBasic256Sha256 or newer")
