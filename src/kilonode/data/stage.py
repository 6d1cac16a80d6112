"""Stage ``stage``: copy a store to storage of each node; the shared file system gives every byte once.

The first ranks of the nodes share the files out among themselves. Each reads its own, in pieces, and hands every
piece to the others; all write, and hold what they wrote against the hash in the index. The index comes last:
where it stands, everything stands.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path

import numpy as np

from kilonode import comm
from kilonode.comm import Comm
from kilonode.data import promises
from kilonode.data.raw import together
from kilonode.data.shard import TRUTH
from kilonode.data.shares import owner
from kilonode.errors import DataError, UserError
from kilonode.progress import Meter
from kilonode.records import complete, file_digest, read_json

PIECE_BYTES = 64 << 20
"""At most this much is read, sent and written at a time; a node holds two of them."""
AT_ONCE = 16
"""So many files are on their way together, each read by another node."""
SLACK_BYTES = 1 << 20
"""Room for folders and the like, beside the files."""


@dataclass(frozen=True)
class Item:
    """A file of the store: its name, size and hash as the index has them."""

    name: str
    nbytes: int
    sha256: str


def run(store: Path, to: Path, truth: bool) -> None:
    """Copy a store, and print the path of the index to use: the copy's, or the original's where room is short.

    Parameters
    ----------
    store : Path
        ``.../index.json``.
    to : Path
        A folder on each node; a rerun keeps what is complete there.
    truth : bool
        Whether to copy what only evaluation may open.

    Raises
    ------
    UserError
        A file is not as its index promises, or cannot be read or written.
    """
    ranks = comm.start()
    nodes = ranks.nodes()
    # The others wait for what the first rank of their node finds: a failure is everybody's.
    short = together(ranks, lambda: _copy(store, to, truth, nodes) if nodes is not None else "")
    chosen = to / promises.NAME
    if short := next((line for line in ranks.allgather(short) if line), ""):
        chosen = store
        if ranks.is_root:
            print(f"kilonode: warning: {short}; using {store} as it is", file=sys.stderr)
    if ranks.is_root:
        print(chosen, flush=True)
    ranks.close()


def _copy(store: Path, to: Path, truth: bool, nodes: Comm) -> str:
    """Do a node's part; empty, or why nothing was copied."""
    together(nodes, lambda: _refuse_same(store, to))
    heads, items = nodes.broadcast(together(nodes, lambda: _described(store, truth) if nodes.is_root else ({}, [])))
    missing = together(nodes, lambda: {item.name for item in items if not _holds(to / item.name, item)})
    need = sum(item.nbytes for item in items if item.name in missing) + sum(map(len, heads.values())) + SLACK_BYTES
    free = together(nodes, lambda: shutil.disk_usage(_existing(to)).free)
    rooms = nodes.allgather((need, free))
    tight = [(number, *room) for number, room in enumerate(rooms) if room[0] > room[1]]
    if tight:
        number, need, free = tight[0]
        return (
            f"expected {need} bytes free on each node, got {free} on {len(tight)} of {nodes.size}, first node {number} "
            f"({to}); free some or choose another folder"
        )
    together(nodes, lambda: _remove(to / promises.NAME) if missing else None)  # it would promise what is not there yet
    wanted = set().union(*nodes.allgather(missing))
    _fetch([item for item in items if item.name in wanted], store.parent, to, missing, nodes)
    together(nodes, lambda: _write_heads(to, heads))
    return ""


def _refuse_same(store: Path, to: Path) -> None:
    if to.absolute().resolve() == store.absolute().resolve().parent:
        raise UserError(f"expected another folder, got that of the store ({to}, --to); choose one on the node")


def _described(store: Path, truth: bool) -> tuple[dict[str, bytes], list[Item]]:
    """The small files, read once, the index last; and what the index says of the shards."""
    content = promises.read(store)
    if "tables" in content:
        raise DataError(f"expected the index of a store, got that of a raw folder ({store}, --store)")
    read_json(store.with_name("stats.json"))
    heads = {"stats.json": store.with_name("stats.json").read_bytes(), promises.NAME: store.read_bytes()}
    kinds = {"data": "", "truth": TRUTH} if truth else {"data": ""}
    items = [
        Item(f"{prefix}{entry['file']}", entry[kind]["bytes"], entry[kind]["sha256"])
        for entry in content["shards"]
        for kind, prefix in kinds.items()
        if kind in entry
    ]
    return heads, items


def _holds(path: Path, item: Item) -> bool:
    return path.is_file() and path.stat().st_size == item.nbytes and file_digest(path) == item.sha256


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())


def _remove(path: Path) -> None:
    with _told(f"expected to write {path}"):
        path.unlink(missing_ok=True)


def _write_heads(to: Path, heads: dict[str, bytes]) -> None:
    for name, content in heads.items():
        if not (to / name).is_file() or (to / name).read_bytes() != content:
            with complete(to / name) as temporary:
                temporary.write_bytes(content)


def _fetch(items: list[Item], folder: Path, to: Path, missing: set[str], nodes: Comm) -> None:
    """Bring files to every node that lacks them, some at once, each read by another node."""
    width = min(nodes.size, AT_ONCE)
    with Meter(len(items), "stage", show=nodes.is_root) as meter:
        for start in range(0, len(items), width):
            parts = [
                _Part(item, owner(k, nodes.size), folder / item.name, to / item.name if item.name in missing else None)
                for k, item in enumerate(items[start : start + width], start)
            ]
            together(nodes, partial(_fetch_together, parts, nodes))
            for _ in parts:
                meter.advance()


def _fetch_together(parts: list[_Part], nodes: Comm) -> None:
    """A node's part of passing some files on. It may stop only where all do, or others would wait for it."""
    own, other = (np.empty(min(PIECE_BYTES, max(part.item.nbytes for part in parts)), np.uint8) for _ in range(2))
    with ExitStack() as stack:
        together(nodes, lambda: _each(parts, lambda part: part.open(nodes.rank, stack)))
        for offset in range(0, max(part.item.nbytes for part in parts), PIECE_BYTES):
            for part in parts:
                part.read(own, offset)
            for part in parts:
                piece = (own if part.reader == nodes.rank else other)[: max(0, part.item.nbytes - offset)]
                if len(piece):
                    nodes.spread(piece, part.reader)
                    part.write(piece)
        together(nodes, lambda: _each(parts, _Part.judge))  # the true reason on all nodes, before any hash
        for part in parts:
            part.compare()


def _each(parts: list[_Part], action: Callable[[_Part], None]) -> None:
    for part in parts:
        action(part)


class _Part:
    """A file on its way, as one node sees it; failures are kept until all nodes may stop."""

    def __init__(self, item: Item, reader: int, source: Path, target: Path | None) -> None:
        self.item, self.reader, self._source, self._target = item, reader, source, target
        self._hash = hashlib.sha256()
        self._from: FileIO | None = None
        self._into: FileIO | None = None
        self._failure: UserError | None = None

    def open(self, rank: int, stack: ExitStack) -> None:
        """Open what this node reads and writes; the stack closes it, and names the file if all went well."""
        if rank == self.reader:
            with _told(f"expected to read {self._source}"):
                self._from = stack.enter_context(self._source.open("rb", buffering=0))
                size = os.fstat(self._from.fileno()).st_size
            if size != self.item.nbytes:
                raise DataError(f"expected {self.item.nbytes} bytes, got {size} ({self._source}); rerun preprocess")
        if self._target is not None:
            temporary = stack.enter_context(complete(self._target))
            with _told(f"expected to write {self._target}"):
                self._into = stack.enter_context(temporary.open("wb", buffering=0))

    def read(self, piece: np.ndarray, offset: int) -> None:
        """Fill a piece, uint8 (B,), if this node reads the file and has not come to its end."""
        view = piece.data[: max(0, self.item.nbytes - offset)]
        if self._from is not None:
            self._attempt(f"expected to read {self._source}", partial(_fill, self._from, view, self._source))

    def write(self, piece: np.ndarray) -> None:
        """Append a piece, uint8 (B,), if this node lacks the file."""
        if self._into is not None:
            self._hash.update(piece.data)
            self._attempt(f"expected to write {self._target}", partial(_empty, self._into, piece.data))

    def judge(self) -> None:
        """Raise what failed."""
        if self._failure is not None:
            raise self._failure

    def compare(self) -> None:
        """Hold what was written against the hash in the index."""
        have = self._hash.hexdigest()
        if self._target is not None and have != self.item.sha256:
            raise DataError(
                f"expected SHA-256 {self.item.sha256} as in the index, got {have} ({self._source}); rerun preprocess"
            )

    def _attempt(self, what: str, action: Callable[[], None]) -> None:
        if self._failure is None:
            try:
                with _told(what):
                    action()
            except UserError as error:
                self._failure = error


def _fill(stream: FileIO, view: memoryview, path: Path) -> None:
    while len(view):
        count = stream.readinto(view)
        if not count:
            raise DataError(f"expected a whole file, got its end ({path}); rerun preprocess")
        view = view[count:]


def _empty(stream: FileIO, view: memoryview) -> None:
    while len(view):
        view = view[stream.write(view) :]


@contextmanager
def _told(what: str) -> Iterator[None]:
    """What the system refuses becomes one line."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{what}, got {error.strerror or error}; check permissions and free space there") from error
