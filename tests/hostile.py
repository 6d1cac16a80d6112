"""Run ``kilonode check`` and ``Store`` on many bad files, each in a process of its own: ``hostile.py FOLDER...``.

Prints one JSON object: folder -> {check, lone, forged, store} -> [exit code, stderr]; a signal gives a negative code;
and -> cost -> [seconds, bytes of memory] of the way that took most.
``check`` reads ``FOLDER/train-00000.h5`` beside its index, unless the folder holds a file ``quick``; ``lone`` and
``forged`` read it in a folder of that name, without an index and with one that was made for it; ``store`` opens
``FOLDER`` as training does, unless it holds a file ``unopened``.
Forked, not started anew: importing h5py takes longer than the rest.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from kilonode import cli
from kilonode.data import check
from kilonode.data.store import Store
from kilonode.errors import UserError

check.PATIENCE_S = 1


def apart(action: Callable[[], None], log: Path) -> tuple[int, str, float, int]:
    """Exit code, stderr, seconds and most memory of an action in a child and its children."""
    start, child = time.monotonic(), os.fork()
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
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), log.read_text(), time.monotonic() - start, used.ru_maxrss * 1024


def read_all(folder: Path) -> None:
    """Open the store as training does, and read it."""
    store = Store(folder / "index.json", "train")
    for name in store.fields:
        store.read(name).sum()


def run(folder: Path, log: Path) -> dict[str, list[object]]:
    """The ways in that the folder has."""
    name = "train-00000.h5"
    ways: dict[str, Callable[[], None]] = {}
    if not (folder / "unopened").exists():
        ways["store"] = lambda: read_all(folder)
    if not (folder / "quick").exists():
        ways["check"] = lambda: cli.main(["check", str(folder / name)])
    for way in ("lone", "forged"):
        if (folder / way).is_dir():
            ways[way] = partial(cli.main, ["check", str(folder / way / name)])
    done = {way: apart(action, log) for way, action in ways.items()}
    said: dict[str, list[object]] = {way: [code, text] for way, (code, text, _, _) in done.items()}
    return said | {"cost": [max(each[2] for each in done.values()), max(each[3] for each in done.values())]}


if __name__ == "__main__":
    log = Path(sys.argv[1]).parent / "stderr.txt"
    print(json.dumps({folder: run(Path(folder), log) for folder in sys.argv[1:]}))
