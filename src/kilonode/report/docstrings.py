"""What the sources of a folder say of themselves, read without importing them: torch and Pythia may be absent."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

LEGEND = "Shape legend:"
"""A paragraph that begins so explains letters of the code, which nobody reads outside it."""
RETURNS = re.compile(r"\AReturns\n-+\n\S.*\n(?P<text>(?: +.*\n?)+)\Z")
SOURCE = re.compile(r"\A(?:Source\n-+\n|Source: )")


@dataclass(frozen=True)
class Spoken:
    """A public function or class and the first paragraph of its docstring."""

    name: str
    kind: str
    """``class`` or ``function``."""
    summary: str
    returns: str
    """What its section ``Returns`` says, if it has one."""


@dataclass(frozen=True)
class Source:
    """One module and its docstring."""

    file: str
    summary: str
    """The first line, without its full stop."""
    paragraphs: tuple[str, ...]
    """What follows, as Markdown, without legends, sources and code."""
    sources: str
    """Papers and repositories named under ``Source``; empty if none."""
    members: tuple[Spoken, ...]
    uses: tuple[str, ...]
    """Modules of the same package that it imports as such: ``from kilonode.cases.<case> import a, b``."""


def source(path: Path) -> Source:
    """Read one module.

    Parameters
    ----------
    path : Path
        A Python file; it is parsed, never run.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    first, *rest = _paragraphs(tree)
    sources = [SOURCE.sub("", text) for text in rest if SOURCE.match(text)]
    kept = [text for text in rest if not SOURCE.match(text) and not text.startswith((LEGEND, "    "))]
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    package = path.parent.name
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    near = [node for node in imports if (node.module or "").split(".")[-1] == package]
    return Source(
        path.name,
        markdown(first).removesuffix("."),
        tuple(markdown(text) for text in kept),
        markdown(" ".join(sources)),
        tuple(_member(node) for node in found if not node.name.startswith("_")),
        tuple(alias.name for node in near for alias in node.names),
    )


def captions(path: Path) -> dict[str, str]:
    """The literal ``CAPTIONS`` of a module: figure -> what it shows.

    Raises
    ------
    ValueError
        It is not written out as a dictionary of texts.
    """
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CAPTIONS":
            return {str(name): str(text) for name, text in ast.literal_eval(node.value).items()}
    return {}


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence."""
    return re.split(r"(?<=[.!?])\s+(?=[A-Z0-9])", text, maxsplit=1)[0]


def markdown(text: str) -> str:
    """Text of a docstring on one line: its double backticks become single ones, and a bar cannot end a cell."""
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


def _member(node: ast.FunctionDef | ast.ClassDef) -> Spoken:
    kind = "class" if isinstance(node, ast.ClassDef) else "function"
    paragraphs = _paragraphs(node)
    returns = next((match["text"] for text in paragraphs if (match := RETURNS.match(text))), "")
    return Spoken(node.name, kind, markdown(paragraphs[0]) if paragraphs else "", markdown(returns))


def _paragraphs(node: ast.Module | ast.FunctionDef | ast.ClassDef) -> list[str]:
    return [text.rstrip() for text in re.split(r"\n\s*\n", ast.get_docstring(node) or "") if text.strip()]
