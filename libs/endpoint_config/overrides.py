"""Environment variables that go before what a file says, and where each setting came from."""

from __future__ import annotations

import os
from collections.abc import Mapping

from .faults import shown
from .values import Entry

MQTT_VARIABLES = (
    "MQTT_BROKER_HOST", "MQTT_BROKER_PORT", "MQTT_USERNAME", "MQTT_PASSWORD", "MQTT_USE_TLS", "MQTT_CA_CERTS",
    "MQTT_CERT_FILE", "MQTT_KEY_FILE", "MQTT_SCADA_TOPICS",
)
OPCUA_VARIABLES = (
    "OPCUA_SERVER_URL", "OPCUA_USERNAME", "OPCUA_PASSWORD", "OPCUA_SECURITY_POLICY", "OPCUA_SECURITY_MODE",
    "OPCUA_CERT_FILE", "OPCUA_PRIVATE_KEY_FILE", "OPCUA_TRUST_CERT_FILE",
)
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def given(variables: tuple[str, ...]) -> list[str]:
    """Those that are set and not empty: an empty one counts as not set, as Compose files produce them."""
    return [name for name in variables if os.environ.get(name)]


class Overrides:
    """The variables that hold for one element, and the origins of its settings."""

    def __init__(self, entry: Entry, variables: tuple[str, ...] = ()) -> None:
        """`variables` are those that may override; none where several elements would be meant."""
        self._entry = entry
        self._values: Mapping[str, str] = {name: os.environ[name] for name in given(variables)}
        self.origins: dict[str, str] = {}

    def text(self, setting: str, variable: str) -> str | None:
        """Value of a variable that is set; the setting's origin is noted."""
        value = self._values.get(variable)
        if value is not None:
            self.origins[setting] = variable
        return value

    def number(self, setting: str, variable: str, lowest: int, highest: int) -> int | None:
        """The same as a whole number; one out of range is a fault."""
        text = self.text(setting, variable)
        if text is None:
            return None
        if text.isdecimal() and lowest <= int(text) <= highest:
            return int(text)
        allowed = f"a whole number from {lowest} to {highest}"
        self._entry.fault("", f"environment variable {variable} {shown(text)}; {allowed}")
        return None

    def flag(self, setting: str, variable: str) -> bool | None:
        """The same as yes or no."""
        text = self.text(setting, variable)
        if text is None or text.lower() in _YES + _NO:
            return None if text is None else text.lower() in _YES
        self._entry.fault("", f"environment variable {variable} {shown(text)}; true or false")
        return None

    def note(self, setting: str, tag: str = "") -> None:
        """The setting came from the file, where it stands there."""
        child = tag or setting
        if child in self._entry.texts or child in self._entry.repeated:
            self.origins.setdefault(setting, f"line {self._entry.line(child)}")
