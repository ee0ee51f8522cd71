"""Reading XML as hostile input: bounded, and refused before anything in it could act.

A file is parsed in three steps, each by the same parser: up to its root element, where a document type shows; then
whole, without entities, network or other files; then, only if nothing in it names a schema of its own, against ours.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

from lxml import etree

from .faults import Report, line_of, shown

MOST_BYTES = 64 * 1024 * 1024
"""Largest file that is read: about 300,000 endpoints."""

MOST_ELEMENTS = 4_000_000
"""Elements of a file: as many as 64 MiB of real endpoints have; empty ones could be ten times as many."""
MOST_ATTRIBUTES = 32
"""Attributes of an element: listing them takes lxml time in the square of their number."""

_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
_XINCLUDE = "http://www.w3.org/2001/XInclude"
_CHUNK = 4096

_PLAIN_WORDS: tuple[tuple[str, str], ...] = (
    (r"Document is empty|no element found", "the file holds no XML; an XML file begins with <?xml or a root element"),
    (r"Start tag expected", "the file is not XML; an XML file begins with <?xml or a root element"),
    (r"Opening and ending tag mismatch: (\S+) line (\d+) and (\S+)",
     r"</\3> closes <\1> of line \2; each element is closed by its own name"),
    (r"Premature end of data in tag (\S+) line (\d+)", r"the file ends inside <\1> of line \2; close it with </\1>"),
    (r"Extra content at the end", "something stands behind the end of the root element; one root element alone"),
    (r"Entity '([^']*)' not defined", r"&\1; is not known; &amp; &lt; &gt; &quot; &apos; or the character itself"),
    (r"EntityRef|xmlParseEntityRef", "a bare & in the text; write &amp;"),
    (r"Invalid bytes|not proper UTF-8|Incomplete UTF-8|invalid character.*encoding|conversion|truncated or incomplete",
     "characters do not match the encoding; save the file as UTF-8, or declare its encoding in the first line"),
    (r"Unsupported encoding:? ?(\S*)", r"encoding \1 is not known; UTF-8, UTF-16 or ISO-8859-1"),
    (r"declaration allowed only at the start|declaration not at start",
     "something stands before <?xml; it begins the file, without blank or empty line"),
    (r"Excessive depth", "elements are nested over 256 deep; endpoint files need 5"),
    (r"Specification mandates value for attribute (\S+)|attributes construct error|error parsing attribute",
     'a tag with words inside; attributes as name="value", and a bare < in the text as &lt;'),
    (r"Failed to parse QName '?([^']*)'?", r"name \1 is not valid; the name of an element, without colon"),
    (r"AttValue: \" or ' expected", 'an attribute without quotes; write name="value"'),
    (r"Attribute (\S+) redefined", r"attribute \1 stands twice; once at most"),
    (r"Unescaped '<'", "a bare < in an attribute; write &lt;"),
    (r"Char value (\d+)|xmlChar value (\d+)|Char 0x", "a control character; visible characters, tab and line break"),
    (r"Namespace prefix (\S+)", r"prefix \1 is not declared; elements without prefix"),
    (r"StartTag: invalid element name", "a bare < in the text, or a name that begins with a digit; write &lt;"),
    (r"Double hyphen|Comment must not contain '--'", "-- inside a comment; a single -"),
    (r"Comment not terminated", "a comment is not closed; end it with -->"),
    (r"Couldn't find end of Start Tag (\S+)", r"<\1 is not closed; end it with >"),
    (r"^expected '>'|Couldn't find end of", "a tag is not closed; end it with >"),
    (r"PI \S+ (never end|space expected)|PI names|xmlParsePI", "an instruction <? is not whole; <?name text?>"),
    (r"CData section not finished", "a CDATA section is not closed; end it with ]]>"),
)


def read_bytes(path: Path, report: Report) -> bytes | None:
    """The content of a regular file within MOST_BYTES, or None and a fault."""
    try:
        # Non-blocking, so that a named pipe is refused and not waited for.
        if not stat.S_ISREG(path.stat().st_mode):
            report.fault(0, "is not a file; the path of an XML file")
            return None
        with path.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except FileNotFoundError:
        report.fault(0, "no such file; the path of an XML file")
        return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        report.fault(0, f"can't be read: {reason}; a readable XML file")
        return None
    if len(data) > MOST_BYTES:
        report.fault(0, f"is over {MOST_BYTES >> 20} MiB; split it into several files")
        return None
    return data


class _RootSeenError(Exception):
    """The root element has begun: nothing of the prolog is to come."""


class _DoctypeError(Exception):
    """A document type declaration has begun."""


class _Prolog:
    """Parser target that stops at the root element, or at a document type before it."""

    def start(self, _tag: str, _attributes: dict[str, str]) -> None:
        raise _RootSeenError

    def doctype(self, *_identifiers: str | None) -> None:
        raise _DoctypeError

    def close(self) -> None:
        """Nothing was built."""


def _options(**more: Any) -> dict[str, Any]:
    """Settings of every parser here: nothing outside the bytes given is looked at."""
    return {"resolve_entities": False, "no_network": True, "load_dtd": False, "dtd_validation": False,
            "attribute_defaults": False, "huge_tree": False, "recover": False, **more}


def parse(data: bytes, report: Report) -> etree._Element | None:
    """The root element of well-formed, harmless XML, or None and a fault."""
    if not _prolog_is_plain(data, report):
        return None
    parser = etree.XMLParser(**_options(remove_comments=True, remove_pis=True))
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        _syntax(error, report)
        return None
    if root.getroottree().docinfo.internalDTD is not None:
        _doctype(data, report)
        return None
    return root if _within_bounds(root, report) and _names_nothing_outside(root, report) else None


def conforms(data: bytes, schema: etree.XMLSchema) -> bool:
    """Whether well-formed bytes conform to a schema.

    Validation while parsing stops caring after the first error; validating a tree would name each one by a path whose
    making takes time in the square of the number of errors (measured: 2.5 s for 20,000).
    """
    try:
        etree.fromstring(data, etree.XMLParser(schema=schema, **_options()))
    except etree.XMLSyntaxError:
        return False
    return True


def _within_bounds(root: etree._Element, report: Report) -> bool:
    """Refuse what is well-formed and still no file of ours, before it costs time and memory."""
    if root.xpath(f"count(descendant-or-self::*) > {MOST_ELEMENTS}"):
        report.fault(0, f"over {MOST_ELEMENTS} elements; split the file into several")
        return False
    return True


def _prolog_is_plain(data: bytes, report: Report) -> bool:
    target: Any = _Prolog()
    parser = etree.XMLParser(target=target, **_options())
    if not data.strip():
        report.fault(1, "the file is empty; an XML file begins with <?xml or a root element")
        return False
    try:
        for start in range(0, len(data), _CHUNK):
            parser.feed(data[start : start + _CHUNK])
        parser.close()
    except _RootSeenError:
        return True
    except _DoctypeError:
        _doctype(data, report)
        return False
    except etree.XMLSyntaxError as error:
        _syntax(error, report)
        return False
    report.fault(1, "the file holds no element; an XML file has one root element")
    return False


def _doctype(data: bytes, report: Report) -> None:
    """Refuse a document type, with its line as well as the bytes tell."""
    found = min((at for text in ("utf-8", "utf-16-le", "utf-16-be")
                 if (at := data.find("<!DOCTYPE".encode(text))) >= 0), default=0)
    line = data.count(b"\n", 0, found) + 1
    report.fault(line, "a DOCTYPE is not accepted; remove it: no document type, no entities")


def _syntax(error: etree.XMLSyntaxError, report: Report) -> None:
    text = re.sub(r", line \d+, column \d+.*", "", error.msg or "not well-formed", flags=re.DOTALL).strip()
    for pattern, words in _PLAIN_WORDS:
        match = re.search(pattern, text)
        if match:
            report.fault(error.lineno or 1, match.expand(words))
            return
    report.fault(error.lineno or 1, f"not well-formed XML ({text}); each element closed, each & written as &amp;, "
                 "each attribute as name=\"value\"")


def _names_nothing_outside(root: etree._Element, report: Report) -> bool:
    """Refuse what points at other files: libxml2 would load a schema that the document names."""
    for element in root.iter(f"{{{_XINCLUDE}}}*"):
        report.fault(line_of(element), "an XInclude is not accepted; write the content itself, or use several files")
    # One walk for both rules: this stands in the way of every load, and no file of ours has such an element.
    found = root.xpath(f"descendant-or-self::*[@*[{MOST_ATTRIBUTES + 1}] or @xsi:*]", namespaces={"xsi": _INSTANCE})
    for place in found if isinstance(found, list) else ():
        if report.full:
            break
        if isinstance(place, etree._Element):
            _foreign_attributes(place, report)
    return not report.faults


def _foreign_attributes(element: etree._Element, report: Report) -> None:
    if len(element.attrib) > MOST_ATTRIBUTES:
        report.fault(line_of(element), f"an element with over {MOST_ATTRIBUTES} attributes; endpoint files need 1")
        return
    for name, value in element.attrib.items():
        local = etree.QName(name).localname
        if etree.QName(name).namespace != _INSTANCE:
            continue
        if local in ("schemaLocation", "noNamespaceSchemaLocation"):
            report.fault(line_of(element), f"an external schema {shown(str(value))} is not accepted; remove the "
                         f"attribute {local}: the schema is built in")
        else:
            report.fault(line_of(element), f"attribute {local} is not accepted; remove it")
