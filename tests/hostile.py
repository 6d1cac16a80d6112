"""Run ``kilonode check`` and ``Store`` on many bad files, each in a process of its own: ``hostile.py FOLDER...``.

Prints one JSON object: folder -> {check, lone, store} -> [exit code, stderr]; a signal gives a negative code.
``check`` reads ``FOLDER/train-00000.h5`` beside its index, unless the folder holds a file ``quick``; ``lone``
reads ``FOLDER/lone/train-00000.h5``, which has none.
Forked, not started anew: importing h5py takes longer than the rest.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from kilonode import cli
from kilonode.data import check
from kilonode.data.store import Store
from kilonode.errors import UserError

check.PATIENCE_S = 1


def apart(action: Callable[[], None], log: Path) -> tuple[int, str]:
    """Exit code and stderr of an action in a child."""
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        for number in (1, 2):
            os.dup2(os.open(log if number == 2 else os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        code = 1
        try:
            action()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        except UserError as error:
            code = 2
            print(*error.problems, sep="\n", file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), log.read_text()


def read_all(folder: Path) -> None:
    """Open the store as training does, and read it."""
    store = Store(folder / "index.json", "train")
    for name in store.fields:
        store.read(name).sum()


def run(folder: Path, log: Path) -> dict[str, tuple[int, str]]:
    """The ways in that the folder has."""
    name = "train-00000.h5"
    ways: dict[str, Callable[[], None]] = {"store": lambda: read_all(folder)}
    if not (folder / "quick").exists():
        ways["check"] = lambda: cli.main(["check", str(folder / name)])
    if (folder / "lone").is_dir():
        ways["lone"] = lambda: cli.main(["check", str(folder / "lone" / name)])
    return {way: apart(action, log) for way, action in ways.items()}


if __name__ == "__main__":
    log = Path(sys.argv[1]).parent / "stderr.txt"
    print(json.dumps({folder: run(Path(folder), log) for folder in sys.argv[1:]}))
