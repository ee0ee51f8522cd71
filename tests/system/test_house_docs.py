"""What README and documentation show is true: links lead somewhere, commands exist, snippets run."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from xml.etree import ElementTree

import peers
import pytest
from docs_pages import PAGES, Block, anchors, blocks, links, with_prefix

BIN = Path(sys.executable).parent
SHM = Path("/dev/shm")
PORT = "15020"
"""The port that pages name; each gets a free one in its place."""
IDS = [str(page.relative_to(peers.ROOT)) for page in PAGES]
STORIES = [page for page in PAGES if any({"run", "check", "file"} & set(block.words) for block in blocks(page))]
STORY_IDS = [str(page.relative_to(peers.ROOT)) for page in STORIES]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    for target in links(page):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert there.is_relative_to(peers.ROOT), target
        if anchor:
            assert anchor in anchors(there), target


def test_every_page_can_be_reached_from_the_index() -> None:
    index = peers.ROOT / "docs" / "README.md"
    linked = {(index.parent / target.partition("#")[0]).resolve() for target in links(index)}
    lost = [page for page in PAGES if page.is_relative_to(index.parent) and page != index and page not in linked]
    assert [page for page in lost if page.parent.name != "decisions"] == []
    assert index.parent / "decisions" in linked


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_block_is_what_it_says(page: Path) -> None:
    checks = {"python": check_python, "xml": check_xml, "sh": check_shell, "console": check_shell}
    for block in blocks(page):
        assert block.language, f"{block.place}: the block has no language; `text` is one"
        if block.language in checks:
            checks[block.language](block)


def check_python(block: Block) -> None:
    compile(block.text, block.place, "exec", dont_inherit=True)


def check_xml(block: Block) -> None:
    text = re.sub(r"<\?xml.*?\?>", "", block.text)
    ElementTree.fromstring(f"<page>{text}</page>")  # several elements, or a part of a file


def check_shell(block: Block) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (peers.ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in block.commands():
        words = [word for word in shlex.split(command, comments=True) if "=" not in word or word.startswith("-")]
        if words[:1] == ["make"]:
            assert set(words[1:]) <= targets, f"{block.place}: {command}"
        if words[:1] == ["cpc"]:
            check_command_line(words[1:], f"{block.place}: {command}")


def check_command_line(words: list[str], place: str) -> None:
    from cpc.commandline.parser import build

    end = next((i for i, word in enumerate(words) if re.match(r"[|&;<>]|\d?>", word)), len(words))
    try:
        build().parse_args(words[:end])
    except SystemExit as error:
        assert not error.code, place


class Story:
    """The blocks of one page, run in order in one folder."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self.folder = self.cwd = folder
        self.prefix = prefix
        self.env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
        self.running = False
        self.printed = ""
        self.port = str(peers.free_port())
        self.stack = ExitStack()

    def tell(self, block: Block) -> None:
        """Run one block as its words say."""
        text = with_prefix(block.text, self.prefix) if block.language in ("python", "sh") else block.text
        text = text.replace(PORT, self.port)
        name = block.words.get("file", f"block{block.line}.{block.language}")
        if "file" in block.words or block.language == "python":
            (self.cwd / name).write_text(text)
        if "check" in block.words:
            (self.cwd / name).write_text(text)
            self.run(["cpc", "check", name], block)
        elif "run" in block.words and block.language == "python":
            self.run_python(name, block)
        elif block.words.get("run") == "background":
            self.start(["bash", "-euc", f"exec {text}"], block)
        elif block.words.get("run") == "simulator":
            self.stack.enter_context(peers.Peer(["bash", "-euc", f"exec {text}"], ready="LISTENS AT", env=self.env,
                                                cwd=self.cwd))
        elif "run" in block.words:
            marker = self.folder / ".cwd"
            allowed = (1, 2, 3) if block.words["run"] == "fails" else (0,)
            self.run(["bash", "-euo", "pipefail", "-c", f"pwd > '{marker}'; {text}\npwd > '{marker}'"], block, allowed)
            self.cwd = Path(marker.read_text().strip())
        elif "output" in block.words:
            self.compare(block)

    def run(self, command: list[str], block: Block, allowed: tuple[int, ...] = (0,)) -> None:
        """Run a command to its end; its exit status must be one of those allowed."""
        result = subprocess.run(
            command, cwd=self.cwd, env=self.env, text=True, capture_output=True, check=False, timeout=120
        )
        self.printed = result.stdout + result.stderr
        assert result.returncode in allowed, f"{block.place}: {result.returncode}\n{self.printed}"
        assert "Traceback" not in self.printed, f"{block.place}\n{self.printed}"

    def compare(self, block: Block) -> None:
        """Find each line of the block in what was printed last, spaces folded."""
        printed = [" ".join(line.split()) for line in self.printed.splitlines()]
        text = block.text.replace(PORT, self.port)
        for line in filter(None, (" ".join(line.split()) for line in text.splitlines())):
            pattern = ".*".join(map(re.escape, line.split("...")))
            assert any(re.fullmatch(pattern, one) for one in printed), f"{block.place}: {line}\n{self.printed}"

    def run_python(self, name: str, block: Block) -> None:
        """Run a program beside a partition; one that never ends must print something."""
        if not self.running and block.words["run"] != "alone":
            self.start([str(BIN / "cpc"), "run", "--config", str(peers.ROOT / "config" / "partition.xml"), "--simulate",
                        "--namespace", self.prefix], block)
        if block.words["run"] != "forever":
            self.run([sys.executable, name], block)
            return
        with peers.Peer([sys.executable, name], env=self.env, cwd=self.cwd) as program:
            program.wait_for(r"\S")
            program.process.send_signal(signal.SIGINT)
            program.process.wait(peers.PATIENCE)
            said = program.output.rstrip()
            assert "Traceback" not in said or said.endswith("KeyboardInterrupt"), f"{block.place}\n{said}"

    def start(self, command: list[str], block: Block) -> None:
        """Start a partition and wait until a device's value is good."""
        process = self.stack.enter_context(peers.Peer(command, env=self.env, cwd=self.cwd))
        peers.wait_until(
            lambda: (everything_runs(process.output) and self.has_data()) or process.process.poll() is not None,
            interval=0.05, what=f"{block.place}: good values"
        )
        assert process.process.poll() is None, f"{block.place}\n{process.output}"
        self.running = True

    def has_data(self) -> bool:
        """Whether every segment of the story holds a good value of a device."""
        import process_image

        names = [path.name for path in SHM.glob(f"{self.prefix}_*_shm")]
        try:
            return bool(names) and all(map(self.has_good_value, names))
        except process_image.ImageError:
            return False

    def has_good_value(self, name: str) -> bool:
        """Whether the segment holds one."""
        import process_image

        with process_image.attach(name) as image:
            qualities = image.snapshot().records["quality"]
            return any(
                quality == 0 for point, quality in zip(image.points, qualities, strict=True)
                if not point.name.startswith("$")
            )


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    """A story with names of its own; at the end its processes are gone and nothing of it is left in /dev/shm."""
    prefix = f"d{secrets.token_hex(5)}"
    told = Story(tmp_path, prefix)
    try:
        with told.stack:
            yield told
    finally:
        left = [*SHM.glob(f"{prefix}*"), *SHM.glob(f"sem.{prefix}*")]
        for path in left:
            path.unlink(missing_ok=True)
    assert not left, left


def everything_runs(said: str) -> bool:
    """Whether every service and consumer that a supervisor has started is up: the first segment is not the last."""
    return set(re.findall(r"started service=(\S+)", said)) == set(re.findall(r"running service=(\S+)", said))


@pytest.mark.timeout(300)  # a page is many commands, one after the other
@pytest.mark.parametrize("page", STORIES, ids=STORY_IDS)
def test_what_the_page_shows_runs(page: Path, story: Story) -> None:
    for block in blocks(page):
        story.tell(block)


def test_the_readme_has_a_consumer_of_ten_lines_that_is_run() -> None:
    (consumer,) = [block for block in blocks(peers.ROOT / "README.md") if block.language == "python"]
    assert "run" in consumer.words
    assert len(consumer.text.splitlines()) <= 10
