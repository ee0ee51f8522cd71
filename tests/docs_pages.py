"""Reads the pages of the documentation and runs what they show.

A fenced block says by the words behind its language what is done with it:

- `python run`: run as a program beside a partition on simulated devices; it must end with 0. `python run=forever`: it
  must print something and is then ended. `python run=alone`: like `run`, without a partition.
- `sh run`: run by bash, in one scratch folder for the whole page. `sh run=fails`: its status must be 1 to 3, and no
  traceback. `sh run=background`: started, and the page goes on
  when its segments hold good values; ended with the page.
- `sh run=simulator`: started, and the page goes on when it listens; ended with the page.
- `file=NAME`: the block is written to that file in the scratch folder, and then run or checked.
- `text output`: each line must stand in what the block before it printed; `...` stands for anything.
- `xml check`: `cpc check` must find no fault.
- without such words: Python must compile, XML must be well-formed, lines that begin with `cpc` must parse as a
  command line, lines that begin with `make` must name targets.

Port 15020 becomes one that is free. Names in shared memory get a random prefix, and so does `cpc run`; everything else
runs as printed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import peers
from markdown_it import MarkdownIt

PAGES = [*sorted(peers.ROOT.glob("*.md")), *sorted((peers.ROOT / "certs").glob("*.md")),
         *sorted((peers.ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    words: dict[str, str]
    """Words behind the language: `run` gives {"run": ""}, `run=forever` {"run": "forever"}."""
    text: str

    @property
    def place(self) -> str:
        """`page:line`, for messages."""
        return f"{self.page.relative_to(peers.ROOT)}:{self.line}"

    def commands(self) -> list[str]:
        """Command lines of a shell block: continued lines joined, prompts cut, comments and output left out."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    found = []
    for token in MarkdownIt().parse(page.read_text()):
        if token.type == "fence":
            language, *words = token.info.split() or [""]
            pairs = dict(([*word.split("=", 1), ""])[:2] for word in words)
            found.append(Block(page=page, line=(token.map or [0])[0] + 1, language=language, words=pairs,
                               text=token.content))
    return found


def links(page: Path) -> list[str]:
    """Targets of all links and pictures of a page."""
    targets = []
    for token in MarkdownIt().parse(page.read_text()):
        for child in token.children or []:
            target = child.attrs.get("href") or child.attrs.get("src")
            if target:
                targets.append(str(target))
    return targets


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as the usual viewers make them."""
    tokens = MarkdownIt().parse(page.read_text())
    headings = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def with_prefix(text: str, prefix: str) -> str:
    """The text with every name in shared memory, and every partition that it starts, under a prefix of its own."""
    text = re.sub(r"\b(modbus|opcua|load|mqtt|status)_(shm|semaphore)", rf"{prefix}_\1_\2", text)
    return re.sub(r"\bcpc (run|health|watch|mqtt)\b", rf"cpc \1 --namespace {prefix}", text)
