"""Saying what a schema would have allowed, for every place of a file that does not conform.

lxml tells quickly that a file does not conform, but leaves out all that follows a wrong element. So the tree is walked
beside the schema as xmlschema reads it: every fault, in words of the schema's own documentation.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lxml import etree

from .faults import Report, line_of, shown
from .names import XML_SPACE


@dataclass
class _Rule:
    """What one element may hold, read from its declaration in the schema."""

    declaration: Any

    @cached_property
    def complex(self) -> bool:
        """Whether it holds elements and not a text."""
        return bool(self.declaration.type.has_complex_content())

    @cached_property
    def particles(self) -> dict[str, tuple[Any, int, int | None, int]]:
        """Children by name: declaration, least and most occurrences, place in the order (equal = any order)."""
        found: dict[str, tuple[Any, int, int | None, int]] = {}
        content = self.declaration.type.content
        _collect(content, found, 0, optional=False, loose=content.max_occurs != 1)
        return found

    @cached_property
    def allowed(self) -> str:
        """What a text may be, as the documentation of its type says."""
        return _documentation(self.declaration.type) or _facets(self.declaration.type)


def _collect(group: Any, found: dict[str, tuple[Any, int, int | None, int]], place: int, *,
             optional: bool, loose: bool) -> int:
    """Flatten sequences and choices of a content model; returns the next place in the order."""
    choice = group.model != "sequence"
    for particle in group:
        if hasattr(particle, "model"):
            inner_optional = optional or choice or particle.min_occurs == 0
            place = _collect(particle, found, place, optional=inner_optional, loose=particle.max_occurs != 1)
        elif getattr(particle, "local_name", None):
            least = 0 if optional or choice else particle.min_occurs
            # How often an element of a repeated choice may stand is checked where the values are read.
            most = None if loose else particle.max_occurs
            found[particle.local_name] = (particle, least, most, place)
        if not choice:
            place += 1
    return place + 1


def _documentation(component: Any) -> str:
    annotation = getattr(component, "annotation", None)
    texts = [" ".join((d.text or "").split()) for d in annotation.documentation] if annotation is not None else []
    return " ".join(t for t in texts if t)


def _facets(kind: Any) -> str:
    """What a type without documentation allows."""
    if kind.has_complex_content():
        return "elements"
    simple = kind.content if kind.is_complex() else kind
    if getattr(simple, "enumeration", None):
        return "one of " + ", ".join(str(value) for value in simple.enumeration)
    bounds = [f"{word} {bound}" for word, bound in
              (("from", getattr(simple, "min_value", None)), ("to", getattr(simple, "max_value", None)))
              if bound is not None]
    name = simple.primitive_type.local_name if simple.primitive_type is not None else simple.local_name or "text"
    return " ".join([f"a value of type {name}", *bounds])


class Explainer:
    """Walks one file beside one schema."""

    def __init__(self, schema: Any, report: Report) -> None:
        self._schema = schema
        self._report = report
        self._rules: dict[int, _Rule] = {}
        self._valid: dict[tuple[int, str], bool] = {}
        self.faulty: set[etree._Element] = set()
        """Elements with a fault of their own or in a simple child: their values are not to be trusted."""

    def explain(self, root: etree._Element) -> None:
        """Report every fault below `root`, until the report is full."""
        declaration = self._schema.elements.get(root.tag) if self._schema is not None else None
        if declaration is None:
            return
        self._element(root, self._rule(declaration))

    def _rule(self, declaration: Any) -> _Rule:
        found = self._rules.get(id(declaration))
        if found is None:
            found = self._rules[id(declaration)] = _Rule(declaration)
        return found

    def _fault(self, element: etree._Element, message: str, holder: etree._Element | None = None) -> None:
        self._report.fault(line_of(element), message)
        self.faulty.add(element if holder is None else holder)

    def _element(self, element: etree._Element, rule: _Rule) -> None:
        if self._report.full:
            return
        self._attributes(element, rule)
        if rule.complex:
            self._children(element, rule)
        else:
            self._text(element, rule)

    def _attributes(self, element: etree._Element, rule: _Rule) -> None:
        declared = getattr(rule.declaration, "attributes", None) or {}
        for key, text in element.attrib.items():
            if self._report.full:
                return
            name, value = str(key), str(text)
            attribute = declared.get(name)
            if attribute is None:
                some = ", ".join(str(n) for n in declared if n) or "none"
                self._fault(element, f"attribute {_local(name)} is not known in {element.tag}; allowed: {some}")
            elif not self._is_valid(attribute.type, value):
                allowed = _documentation(attribute.type) or _facets(attribute.type)
                self._fault(element, f"{name} {shown(value)} of {element.tag} is not valid; {allowed}")
        for name, attribute in declared.items():
            if name and attribute.use == "required" and name not in element.attrib:
                allowed = _documentation(attribute.type) or _facets(attribute.type)
                self._fault(element, f"attribute {name} is missing in {element.tag}; {allowed}")

    def _children(self, element: etree._Element, rule: _Rule) -> None:
        if _has_text(element):
            self._fault(element, f"text stands between the elements of {element.tag}; elements only: "
                        f"{', '.join(rule.particles)}")
        known: list[tuple[etree._Element, int]] = []
        meant: set[str] = set()
        counts: dict[str, int] = {}
        for child in element:
            particle = rule.particles.get(child.tag)
            if particle is None:
                meant.add(self._unknown(child, element, rule))
                continue
            counts[child.tag] = counts.get(child.tag, 0) + 1
            if particle[2] is not None and counts[child.tag] > particle[2]:
                self._fault(child, f"{child.tag} stands twice in this {element.tag}; once at most", element)
            else:
                known.append((child, particle[3]))
            self._child(child, particle[0], element)
            if self._report.full:
                return
        self._missing(element, rule, counts, meant)
        self._order(element, rule, known)

    def _child(self, child: etree._Element, declaration: Any, parent: etree._Element) -> None:
        rule = self._rule(declaration)
        self._element(child, rule)
        if not rule.complex and child in self.faulty:
            self.faulty.add(parent)

    def _unknown(self, child: etree._Element, parent: etree._Element, rule: _Rule) -> str:
        """Report a child that is not known; returns the name that was likely meant."""
        name = _local(child.tag)
        if child.tag != name and name in rule.particles:
            self._fault(child, f"element {name} has a namespace; remove xmlns and prefix", parent)
            return name
        near = _near(name, rule.particles)
        allowed = f"did you mean {near}?" if near else f"allowed: {', '.join(rule.particles)}"
        self._fault(child, f"element {name} is not known in {parent.tag}; {allowed}", parent)
        return near

    def _missing(self, element: etree._Element, rule: _Rule, counts: dict[str, int],
                 meant: set[str]) -> None:
        missing = [name for name, (_, least, _, _) in rule.particles.items()
                   if counts.get(name, 0) < least and name not in meant]
        if missing:
            order = ", ".join(name for name, (_, least, _, _) in rule.particles.items() if least)
            self._fault(element, f"{_and(missing)} missing in {element.tag}; required in this order: {order}")
        elif not len(element) and rule.declaration.type.content.min_occurs and not rule.declaration.type.is_emptiable():
            self._fault(element, f"{element.tag} is empty; at least one of {', '.join(rule.particles)}")

    def _order(self, element: etree._Element, rule: _Rule, known: list[tuple[etree._Element, int]]) -> None:
        highest, last = -1, ""
        for child, place in known:
            if place < highest:
                self._fault(child, f"{child.tag} stands after {last} in {element.tag}; {_sequence(rule)}", element)
                return
            if place > highest:
                highest, last = place, child.tag

    def _text(self, element: etree._Element, rule: _Rule) -> None:
        if len(element):
            inner = _local(element[0].tag)
            held = f"a text: {rule.allowed}" if rule.declaration.type.has_simple_content() else "attributes alone"
            self._fault(element, f"element {inner} stands inside {element.tag}; {element.tag} holds {held}")
            return
        text = element.text or ""
        kind = rule.declaration.type
        if kind.is_complex() and not kind.has_simple_content():  # attributes alone
            if text.strip(XML_SPACE):
                self._fault(element, f"text stands in {element.tag}; it holds attributes alone")
            return
        if self._is_valid(kind, text):
            return
        value = "is empty" if not text.strip(XML_SPACE) else f"{shown(text)} is not valid"
        self._fault(element, f"{element.tag} {value}; {_hint(text, kind)}{rule.allowed}")

    def _is_valid(self, kind: Any, text: str) -> bool:
        key = (id(kind), text)
        found = self._valid.get(key)
        if found is None:
            simple = kind.content if kind.is_complex() else kind
            found = self._valid[key] = bool(simple.is_valid(text))
        return found


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _has_text(element: etree._Element) -> bool:
    if (element.text or "").strip(XML_SPACE):
        return True
    return any((child.tail or "").strip(XML_SPACE) for child in element)


def _and(names: list[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"


def _sequence(rule: _Rule) -> str:
    """The order of children in words: those in a fixed order, then those in any."""
    places = [place for _, _, _, place in rule.particles.values()]
    fixed = [name for name, (_, _, _, place) in rule.particles.items() if places.count(place) == 1]
    rest = "; the others follow in any order" if len(fixed) < len(places) else ""
    return f"the order is {', '.join(fixed)}{rest}"


def _near(name: str, names: Any) -> str:
    """The known name that was likely meant."""
    given = name.casefold()
    folded = {known.casefold(): known for known in names}
    found = difflib.get_close_matches(given, folded, n=1, cutoff=0.75)
    if not found and len(given) > 3:
        # A prefix or ending left out or put before: Basic256Sha256, serveralias.
        found = [known for known in folded if given in known or (len(known) > 3 and known in given)]
    return folded[found[0]] if found else ""


def _hint(text: str, kind: Any) -> str:
    """A likely cause, put before what is allowed."""
    value = " ".join(text.split())
    enumeration = getattr(kind, "enumeration", None)
    if enumeration:
        near = _near(value, [str(e) for e in enumeration])
        return f"did you mean {near}? " if near else ""
    number = value.lstrip("+-")
    if "," in number and number.replace(",", "").replace(".", "").isdigit():
        return "write a decimal point, not a comma: "
    if number[:2].lower() == "0x":
        return "write it as a decimal number: "
    return ""
