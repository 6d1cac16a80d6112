"""Pages that are run: what they say to type works, and shows what they say it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
FENCE = re.compile(r"^```(?P<words>[^`\n]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
RUN = {"bash": ("bash", "-euo", "pipefail", "-c"), "python": (sys.executable, "-c")}


@dataclass(frozen=True)
class Block:
    """What a page says to type, and what it says is then shown.

    Attributes
    ----------
    section : str
        The heading it stands under.
    language : str
        bash or python.
    marks : frozenset of str
        Further words of its fence: ``slurm`` needs a Slurm system.
    text : str
        What is typed.
    shown : str or None
        The ``text`` fence right behind it; None: the page does not say.
    """

    section: str
    language: str
    marks: frozenset[str]
    text: str
    shown: str | None

    @property
    def commands(self) -> list[str]:
        """Its lines without comments, for blocks of one command a line."""
        lines = (line.partition(" #")[0].strip() for line in self.text.splitlines())
        return [line for line in lines if line]


def blocks(page: Path) -> list[Block]:
    """All blocks of a page that can be typed, in its order."""
    content = page.read_text()
    fences = list(FENCE.finditer(content))
    found = []
    for fence, after in zip(fences, [*fences[1:], None], strict=True):
        language, *marks = fence["words"].split() or [""]
        if language not in RUN:
            continue
        behind = after and after["words"] == "text" and not content[fence.end() : after.start()].strip()
        section = re.findall(r"^## (.+)$", FENCE.sub("", content[: fence.start()]), re.MULTILINE)
        found.append(
            Block(
                section[-1] if section else "",
                language,
                frozenset(marks),
                fence["text"],
                after["text"] if after and behind else None,
            )
        )
    return found


def linked(folder: Path) -> Path:
    """Make ``folder`` a checkout of links, so that results do not land among the sources."""
    for path in REPOSITORY.iterdir():
        if path.name not in ("results", "logs", "mine", ".snakemake", ".git"):
            (folder / path.name).symlink_to(path)
    return folder


def run(text: str, folder: Path, language: str = "bash") -> subprocess.CompletedProcess[str]:
    """Type it: both streams are in ``stdout``, as a terminal shows them. What `make` would do is only printed."""
    return subprocess.run(
        [*RUN[language], re.sub(r"^make ", "make -n ", text, flags=re.MULTILINE)],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def follow(block: Block, folder: Path) -> str:
    """Type a block and hold what comes against what the page shows; what came."""
    done = run(block.text, folder, block.language)
    assert done.returncode == 0, f"{block.text}\nended with {done.returncode}:\n{done.stdout[-5000:]}"
    assert block.shown is None or shows(block.shown, done.stdout), f"{done.stdout}\nis not\n{block.shown}"
    return done.stdout


def shows(expected: str, said: str) -> bool:
    """Whether this was said: ``...`` stands for any text in its line, alone in a line for any lines."""
    parts = [
        r"(?:.*\n)*?" if line == "..." else ".*".join(map(re.escape, line.split("..."))) + r"\n"
        for line in expected.splitlines()
    ]
    return re.fullmatch("".join(parts), said if said.endswith("\n") else f"{said}\n") is not None
