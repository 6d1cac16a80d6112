"""Prove from the answers that every node came and that everything has one owner; draw how long launches take.

``python -m kilonode.slurm.roll RECORD... --output SUMMARY``: records of ``muster``, one for each number of nodes.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from kilonode import config
from kilonode.bench import table
from kilonode.errors import UserError
from kilonode.records import Json, complete, conditions, figure, read_json, write_json

MOST = 1.5
"""Times the launch of ``true``."""


def problems(record: Json) -> Iterator[str]:
    """What is wrong with the answers to one call; nothing if all came and all is dealt out, once."""
    nodes, plan, answers = record["nodes"], record["plan"], record["answers"]
    if wrong := _uncovered((row["node"] for row in answers), nodes):
        yield f"expected each of {nodes} nodes to answer once, got {wrong}"
        return
    if {row["nodes"] for row in answers} != {nodes} or len({row["name"] for row in answers}) != nodes:
        yield f"expected {nodes} names and as many in everybody's count, got others"
    ranks = sorted((rank for row in answers for rank in row["ranks"]), key=lambda rank: rank["rank"])
    dealt = {
        "ranks": ((rank["rank"] for rank in ranks), nodes * plan["ranks_per_node"]),
        "shards to write": ((shard for rank in ranks for shard in range(*rank["shards"])), plan["shards"]),
        "shards to read for all": ((shard for row in answers for shard in range(*row["reads"])), plan["shards"]),
    }
    for what, (items, count) in dealt.items():
        if wrong := _uncovered(items, count):
            yield f"expected each of {count} {what} once, got {wrong} ({nodes} nodes)"
    for name in ("batch", "last"):
        ends = [0, *(edge for rank in ranks for edge in rank[name]), plan[name]]
        if any(left != right for left, right in zip(ends[::2], ends[1::2], strict=True)):
            yield f"expected the {plan[name]} samples of a batch to be cut without gap or overlap, got {ends[:8]}..."
        if any(left > right for left, right in pairwise(ends)):
            yield f"expected parts of a batch in the order of ranks, got others ({nodes} nodes, {name})"


def _uncovered(items: Iterable[int], count: int) -> str:
    """Which of 0 ... count-1 are missing, double or strange; empty: none."""
    found = Counter(items)
    missing = [number for number in range(count) if number not in found]
    double = [number for number, times in found.items() if times > 1]
    strange = [number for number in found if not 0 <= number < count]
    kinds = {"no": missing, "more than one": double, "foreign": strange}
    return ", ".join(f"{kind} {', '.join(map(str, numbers[:4]))}" for kind, numbers in kinds.items() if numbers)


def figures(records: Sequence[Json]) -> list[Json]:
    """What was called and came, and how long each launch took, beside that of ``true``; the least of all rounds."""
    most = records[-1]
    nodes, plan = most["nodes"], most["plan"]
    ratio = min(most["called_s"]) / min(most["bare_s"])
    return [
        figure("nodes_answered", len(most["answers"]), "nodes", target=nodes, met=len(most["answers"]) == nodes),
        figure("ranks", nodes * plan["ranks_per_node"], note="numbered once each"),
        figure("shards", plan["shards"], note="each written by one rank, read for all by one node"),
        figure("launch_ratio", ratio, "1", target=MOST, met=ratio <= MOST, note=f"{nodes} nodes, true: 1"),
        *(
            figure(f"{kind}_{record['nodes']}", min(record[f"{kind}_s"]), "s")
            for record in records
            for kind in ("bare", "called", "last")
        ),
    ]


def draw(records: Sequence[Json], path: Path) -> None:
    """Launch time over nodes: of ``true``, of our task, and until the last of our tasks had begun."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = picture.subplots()
    nodes = [record["nodes"] for record in records]
    styles = {
        "bare": ("srun true", "#999999", "o"),
        "called": ("one task a node, all answered", "#0072B2", "s"),
        "last": ("the last task has begun", "#D55E00", "^"),
    }
    for kind, (label, color, marker) in styles.items():
        axes.plot(nodes, [min(record[f"{kind}_s"]) for record in records], color=color, marker=marker, label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(nodes, [str(number) for number in nodes])
    axes.set_xlabel("nodes")
    axes.set_ylabel("from the start of srun [s]")
    axes.set_title(
        f"Launch on {records[-1]['conditions']['host']}, {records[-1]['conditions']['cores']} cores", size=10
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with complete(path) as temporary:
        picture.savefig(temporary, format="png", dpi=150)


def gather(paths: Sequence[Path], output: Path) -> Json:
    """Hold all records against their plans, write summary and figure.

    Raises
    ------
    UserError
        A node did not answer, or something has no owner or two; nothing is written.
    """
    records = sorted((read_json(path) for path in paths), key=lambda record: int(record["nodes"]))
    if found := [problem for record in records for problem in problems(record)]:
        raise UserError(*(f"{problem}; see the records of muster" for problem in found))
    summary: Json = {"bench": "launch", "figures": figures(records), "conditions": conditions(seeds=[])}
    config.check(summary, config.schema("bench"), output)
    draw(records, output.with_suffix(".png"))
    write_json(output, summary)
    return summary


def main() -> None:
    """Prove, draw, print; 2 where something is missing."""
    parser = argparse.ArgumentParser(prog="roll", description="prove that all nodes came; draw launch times")
    parser.add_argument("records", nargs="+", type=Path, metavar="RECORD", help="what muster wrote")
    parser.add_argument("--output", type=Path, required=True, metavar="PATH", help="summary to write; a .png beside it")
    asked = parser.parse_args()
    try:
        print(table(gather(asked.records, asked.output)["figures"]))
    except UserError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
