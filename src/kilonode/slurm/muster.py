"""Call all nodes and time it: ``python -m kilonode.slurm.muster --nodes N --output FILE -- srun -N N``.

Beside each call the same launcher starts ``true``: what the launch costs without us. The two take turns, so that a
machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from kilonode.errors import UserError
from kilonode.records import PACKAGE, Json, conditions, write_json
from kilonode.slurm import answer
from kilonode.slurm.answer import MARK

PLAN = {"shards": 8_191, "batch": 65_536, "last": 40_961, "ranks_per_node": 2}
"""What is dealt: 8,191 shards of 128 MiB are 1 TiB; prime and odd numbers, so that nothing comes out even by chance."""


def call(launcher: Sequence[str], nodes: int, rounds: int) -> Json:
    """Start one task on each node, and time it.

    Returns
    -------
    dict
        ``nodes``, ``plan``, the ``answers`` of the last round; for each round ``bare_s`` and ``called_s`` (start to end
        of the launcher, s) and ``last_s`` (start of the launcher to the first line of the last task, s).
    """
    # -S -P: neither site-packages nor this folder is looked through, by a thousand nodes
    program = [sys.executable, "-S", "-P", answer.__file__, *(f"{name}={value}" for name, value in PLAN.items())]
    found: Json = {"nodes": nodes, "plan": PLAN, "bare_s": [], "called_s": [], "last_s": []}
    for number in range(rounds):
        turns = ("bare", "called") if number % 2 == 0 else ("called", "bare")
        for turn in turns:
            began = time.time()
            out = _output([*launcher, *(program if turn == "called" else ["true"])])
            found[f"{turn}_s"].append(time.time() - began)
            if turn == "called":
                answers = [ast.literal_eval(line[len(MARK) :]) for line in out.splitlines() if line.startswith(MARK)]
                found["answers"] = answers
                found["last_s"].append(max((row["began"] for row in answers), default=began) - began)
    return found


def _output(command: list[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[-300:]
        raise UserError(
            f"expected every task to start and end well, got {said!r} ({' '.join(command[:4])}); see its log"
        )
    return done.stdout


def main() -> None:
    """Call, and write the record; 2 where the launcher fails."""
    parser = argparse.ArgumentParser(prog="muster", description="call one task on each node and time it")
    parser.add_argument("--nodes", type=int, required=True, metavar="N", help="as many as the launcher starts tasks on")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="calls, each beside a bare one (default 1)")
    parser.add_argument("--output", type=Path, required=True, metavar="PATH", help="record to write (.json)")
    parser.add_argument("launcher", nargs="*", metavar="-- WORD", help="for example: srun -N 4 -n 4")
    asked = parser.parse_args()
    try:
        found = call(asked.launcher, asked.nodes, asked.rounds)
        write_json(asked.output, {**found, "conditions": conditions(seeds=[])})
    except UserError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        sys.exit(2)
    print(f"muster: {len(found['answers'])} of {asked.nodes} nodes answered in {min(found['called_s']):.2f} s")


if __name__ == "__main__":
    main()
