"""Identifiers of OPC UA NodeIds as texts (OPC UA Part 6, clause 5.3.1.10; Part 3, clause 8.2)."""

from __future__ import annotations

import base64
import binascii
import re

from .faults import shown

MOST_NUMERIC = 2**32 - 1
MOST_TEXT = 4096
"""Longest String or Opaque identifier (OPC UA Part 3, clause 8.2.4): characters or bytes."""

_GUID = re.compile(r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_NOTATION = re.compile(r"(ns=\d+;)?([isgb])=(.*)", re.DOTALL)


def identifier_fault(kind: str, text: str) -> str:
    """What is wrong with an identifier of a type, and what is allowed; empty where nothing is."""
    notation = _NOTATION.fullmatch(text)
    if notation and kind != "String":
        return (f"Identifier {shown(text)} is a whole NodeId; the identifier alone, such as {shown(notation[3])}, with "
                "its NamespaceIndex and IdentifierType")
    check = _CHECKS.get(kind)
    return check(text) if check else ""


def _numeric(text: str) -> str:
    if text.isascii() and text.isdigit() and len(text) <= 12 and int(text) <= MOST_NUMERIC:
        return ""
    likely = ", or IdentifierType String" if text and not text.lstrip("+-").isdigit() else ""
    return f"Identifier {shown(text)} is not Numeric; a whole number from 0 to {MOST_NUMERIC}{likely}"


def _string(text: str) -> str:
    return "" if len(text) <= MOST_TEXT else f"Identifier of {len(text)} characters; at most {MOST_TEXT}"


def _guid(text: str) -> str:
    if _GUID.fullmatch(text):
        return ""
    return f"Identifier {shown(text)} is not a Guid; hexadecimal digits such as 72962b91-fa75-4ae6-8d28-b404dc7daf63"


def _opaque(text: str) -> str:
    try:
        size = len(base64.b64decode("".join(text.split()), validate=True))
    except (binascii.Error, ValueError):
        return f"Identifier {shown(text)} is not Opaque; base64, such as M/RbKBsRVkePCePcx24oRA=="
    return "" if size <= MOST_TEXT else f"Identifier of {size} bytes; at most {MOST_TEXT}"


_CHECKS = {"Numeric": _numeric, "String": _string, "Guid": _guid, "Opaque": _opaque}
