"""The text that a scheduler gets: a pure function of (site, request).

It holds directives and five lines of shell; the work itself is ``slurm/allocation.sbatch``, the same on every site.
Values come in two ways. In a directive the scheduler parses them by rules of its own, so only harmless characters are
let in. In a line of shell they are quoted, so that any text passes but control characters.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from kilonode.errors import UserError
from kilonode.slurm.sites import Site

HARMLESS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*")
"""What may stand in a directive: names as schedulers give them."""


@dataclass(frozen=True)
class Request:
    """What somebody wants of a site.

    Attributes
    ----------
    folder : str
        Absolute path of the checkout, where the job works.
    nodes, minutes, ranks_per_node : int
        At least 1.
    account, queue : str
        Empty: none is named.
    name : str
        Of the job.
    options : tuple of str
        Words for snakemake.
    """

    folder: str
    nodes: int
    minutes: int
    ranks_per_node: int
    account: str = ""
    queue: str = ""
    name: str = "kilonode"
    options: tuple[str, ...] = ()


def problems(site: Site, request: Request) -> list[str]:
    """Values that no text can carry, one line each."""
    found = []
    for what, number in (("--nodes", request.nodes), ("--minutes", request.minutes), ("ranks", request.ranks_per_node)):
        if number < 1:
            found.append(f"expected at least 1, got {number} ({what})")
    if site.cpus_per_node is not None and request.ranks_per_node > site.cpus_per_node:
        ranks, cpus = request.ranks_per_node, site.cpus_per_node
        found.append(f"expected at most {cpus} ranks, one for each CPU of a node of {site.name}, got {ranks} (ranks)")
    for what, word in (("--account", request.account), ("--queue", request.queue), ("--name", request.name)):
        if word and not HARMLESS.fullmatch(word):
            found.append(f"expected letters, digits and _ . @ + -, got {word!r} ({what}); check its spelling")
    for what, text in (("folder", request.folder), *(("option", word) for word in request.options)):
        if not text.isprintable():
            found.append(f"expected text on one line, got {text!r} ({what}); rename it or leave it out")
    return found


def warning_s(request: Request) -> int:
    """Seconds before the end at which the job is told: 120 and half a second a node, so that a thousand ranks can save.

    hpc practice is 60 s on few nodes and 600 s on 1,024; never more than half of the job.
    """
    return min(120 + request.nodes // 2, 30 * request.minutes)


def text(site: Site, request: Request) -> str:
    """The whole batch script.

    Raises
    ------
    UserError
        A value that the text cannot carry unharmed.
    """
    found = problems(site, request)
    if found:
        raise UserError(*found)
    directives = _slurm(site, request) if site.scheduler == "slurm" else _pbs(site, request)
    mark = "#SBATCH" if site.scheduler == "slurm" else "#PBS"
    return "\n".join(["#!/bin/bash", *(f"{mark} {line}" for line in directives), *_body(site, request)]) + "\n"


def _slurm(site: Site, request: Request) -> Iterator[str]:
    yield f"--job-name={request.name}"
    if request.account:
        yield f"--account={request.account}"
    if request.queue:
        yield f"{site.queue_option}={request.queue}"
    yield f"--nodes={request.nodes}"
    yield f"--ntasks-per-node={request.ranks_per_node}"
    yield f"--time={request.minutes}"
    yield "--exclusive"
    yield f"--signal=B:USR1@{warning_s(request)}"
    yield "--open-mode=append"
    yield "--requeue"
    yield "--output=slurm-%j.out"
    yield from site.directives


def _pbs(site: Site, request: Request) -> Iterator[str]:
    yield f"-N {request.name}"
    if request.account:
        yield f"-A {request.account}"
    if request.queue:
        yield f"{site.queue_option} {request.queue}"
    yield f"-l select={request.nodes}"
    yield f"-l walltime={request.minutes // 60:02d}:{request.minutes % 60:02d}:00"
    yield "-j oe"
    yield from site.directives


def _body(site: Site, request: Request) -> Iterator[str]:
    yield f"cd {shlex.quote(request.folder)} || exit 2"
    yield f"export KILONODE_SITE={shlex.quote(site.name)} KILONODE_RANKS_PER_NODE={request.ranks_per_node}"
    yield 'export SLURM_SUBMIT_DIR="$PWD"'
    yield shlex.join(["exec", "bash", "slurm/allocation.sbatch", *request.options])
