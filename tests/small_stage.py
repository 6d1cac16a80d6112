"""``small_stage.py STORE FOLDER PIECE_BYTES``: ``kilonode stage`` where every rank's node has a folder of its own.

Nodes are those that MPI sees. What each rank opened under the store's folder goes to ``FOLDER/reads-<rank>.txt``,
one line a read: file, bytes.
"""

from __future__ import annotations

import sys
from io import FileIO
from pathlib import Path

from mpi4py import MPI

from kilonode import cli
from kilonode.data import stage

store, folder = Path(sys.argv[1]), Path(sys.argv[2])
stage.PIECE_BYTES = int(sys.argv[3])
node = MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED)
first = node.bcast(MPI.COMM_WORLD.rank)
whole = stage._fill
reads: list[str] = []


def logged(stream: FileIO, view: memoryview, path: Path) -> None:
    reads.append(f"{path.relative_to(store.parent)} {len(view)}\n")
    whole(stream, view, path)


stage._fill = logged
try:
    cli.main(["stage", "--store", str(store), "--to", str(folder / f"node {first}"), *sys.argv[4:]])
finally:
    (folder / f"reads-{MPI.COMM_WORLD.rank}.txt").write_text("".join(reads))
