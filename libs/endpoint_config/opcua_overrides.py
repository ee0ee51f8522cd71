"""What the environment says of the one OPC UA server, before its file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .effective_settings import Setting
from .faults import shown
from .models import ConfigError, Fault, OpcUaServer, Secret, SecurityMode
from .overrides import OPCUA_VARIABLES, given

_POLICIES = ("None", "Basic128Rsa15", "Basic256", "Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss")
_FIELDS = {
    "OPCUA_SERVER_URL": "url", "OPCUA_USERNAME": "username", "OPCUA_PASSWORD": "password",
    "OPCUA_SECURITY_POLICY": "security_policy", "OPCUA_SECURITY_MODE": "security_mode",
    "OPCUA_CERT_FILE": "client_certificate", "OPCUA_PRIVATE_KEY_FILE": "client_private_key",
    "OPCUA_TRUST_CERT_FILE": "server_certificate",
}


def ambiguous(servers: Sequence[OpcUaServer]) -> tuple[Fault, ...]:
    """A fault where variables are set and there is more than one server: nobody could tell which is meant."""
    found = given(OPCUA_VARIABLES)
    if not found or len(servers) < 2:
        return ()
    return (Fault(file=servers[1].file, line=servers[1].line, message=(
        f"{', '.join(found)} in the environment, and {len(servers)} OPC UA servers; these variables are for exactly "
        "one server: unset them, and write ${VARIABLE} into the entries")),)


def overridden(servers: Sequence[OpcUaServer]) -> tuple[OpcUaServer, ...]:
    """The servers as the environment has them; raises ConfigError where that makes no sense."""
    if faults := ambiguous(servers):
        raise ConfigError(faults)
    if len(servers) != 1 or not given(OPCUA_VARIABLES):
        return tuple(servers)
    (server,) = servers
    changes: dict[str, Any] = {}
    faults_: list[str] = []
    for variable in given(OPCUA_VARIABLES):
        value, fault = _value(variable, os.environ[variable])
        if fault:
            faults_.append(f"environment variable {variable} {fault}")
        changes[_FIELDS[variable]] = value
    made = server if faults_ else replace(server, **changes)
    if not faults_ and (made.security_policy == "SecurityPolicyNone") != (made.security_mode is SecurityMode.NONE):
        faults_.append(f"{made.security_policy} with mode {made.security_mode}; OPCUA_SECURITY_POLICY and "
                       "OPCUA_SECURITY_MODE must fit each other")
    if faults_:
        raise ConfigError(tuple(Fault(file=server.file, line=server.line, message=text) for text in faults_))
    return (made,)


def _value(variable: str, text: str) -> tuple[Any, str]:
    """What a variable sets, and what is wrong with it."""
    if variable == "OPCUA_SERVER_URL":
        return text, "" if text.startswith("opc.tcp://") else f"{shown(text)} is no endpoint; opc.tcp://host:port/path"
    if variable == "OPCUA_PASSWORD":
        return Secret(value=text, source="${OPCUA_PASSWORD}"), ""
    if variable == "OPCUA_SECURITY_POLICY":
        name = text.rpartition("#")[2].removeprefix("SecurityPolicy")
        return f"SecurityPolicy{name}", "" if name in _POLICIES else f"{shown(text)}; one of {', '.join(_POLICIES)}"
    if variable == "OPCUA_SECURITY_MODE":
        modes = {mode.value.lower(): mode for mode in SecurityMode}
        found = modes.get(text.lower())
        return found, "" if found else f"{shown(text)}; None, Sign or SignAndEncrypt"
    return (text if variable == "OPCUA_USERNAME" else Path(text).absolute()), ""


def effective_opcua(servers: Sequence[OpcUaServer]) -> tuple[Setting, ...]:
    """What the environment sets of the one server, secrets as stars; empty where it sets nothing or makes no sense."""
    try:
        made = overridden(servers)
    except ConfigError:
        return ()
    if len(made) != 1:
        return ()
    return tuple(Setting(owner=made[0].alias, name=_FIELDS[v], value=str(getattr(made[0], _FIELDS[v])), origin=v)
                 for v in given(OPCUA_VARIABLES))
