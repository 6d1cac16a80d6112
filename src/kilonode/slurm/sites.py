"""What is known of each system: the files ``slurm/sites/<site>.env``.

A site's file is read twice. The job sources it with bash and gets what it exports. Before that, ``kilonode submit``
reads its plain assignments (lower case, no ``$``) as data, without running anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kilonode.errors import UserError, near

FOLDER = Path("slurm/sites")
SCHEDULERS = ("slurm", "pbs")
_FACT = re.compile(r'^([a-z_]+)=(?:"([^"]*)"|([^\s"#]*))[ \t]*(?:#.*)?$', re.MULTILINE)
_EXPORT = re.compile(r"^export (KILONODE_[A-Z_]+)=\"?(?:\$\{\1:-)?(\d+)\}?\"?[ \t]*(?:#.*)?$", re.MULTILINE)
_MINUTES = {"m": 1, "h": 60, "d": 24 * 60}


@dataclass(frozen=True)
class Queue:
    """What a queue takes; a name may have several rows, for jobs of different sizes. None: no limit is known.

    Attributes
    ----------
    name : str
        As the scheduler knows it.
    fewest, most : int
        Nodes of one job.
    minutes : int
        Of one job.
    queued, running : int
        Jobs of one user: waiting and running together, and running.
    """

    name: str
    fewest: int
    most: int | None
    minutes: int | None
    queued: int | None
    running: int | None

    def takes(self, nodes: int) -> bool:
        """Whether a job of this size belongs here."""
        return self.fewest <= nodes and (self.most is None or nodes <= self.most)

    @property
    def sizes(self) -> str:
        """Its sizes for a message."""
        return f"{self.fewest} nodes or more" if self.most is None else f"{self.fewest} to {self.most} nodes"


@dataclass(frozen=True)
class Site:
    """One system, as data.

    Attributes
    ----------
    name : str
        Of the file, without ``.env``.
    scheduler : str
        slurm or pbs.
    retired : bool
        It is no more; the file is kept for the record.
    account : str
        Pattern of an account's name (fnmatch); empty: none is needed.
    queue_option : str
        How a job names its queue, ``--qos`` or ``--partition``.
    queue : str
        Taken unless the request names one; empty: the scheduler's own default.
    queues : tuple of Queue
        Limits that are known.
    directives : tuple of str
        What every job of this site says besides, in the scheduler's words.
    ranks_per_node : int
        MPI ranks unless the request says otherwise.
    cpus_per_node : int or None
        What Slurm counts as CPUs and a job may use; None: only the job finds out.
    """

    name: str
    scheduler: str
    retired: bool
    account: str
    queue_option: str
    queue: str
    queues: tuple[Queue, ...]
    directives: tuple[str, ...]
    ranks_per_node: int
    cpus_per_node: int | None


def names(home: Path) -> list[str]:
    """All sites of a checkout."""
    return sorted(path.stem for path in (home / FOLDER).glob("*.env"))


def read(name: str, home: Path) -> Site:
    """A site of a checkout.

    Raises
    ------
    UserError
        No such site, or its file has a mistake.
    """
    if name not in names(home):
        raise UserError(f"expected a site, got {name!r} (--site); {near(name, names(home))}")
    path = home / FOLDER / f"{name}.env"
    text = path.read_text(encoding="utf-8")
    facts = {key: quoted or plain for key, quoted, plain in _FACT.findall(text)}
    exported = {key: int(value) for key, value in _EXPORT.findall(text)}
    known = {"scheduler", "retired", "account", "queue_option", "queue", "queues", "directives"}
    problems = [f"expected a known fact, got {key!r} ({path}); {near(key, known)}" for key in facts if key not in known]
    problems += [f"expected a literal, got {value!r} ({path}, {key})" for key, value in facts.items() if "$" in value]
    if facts.get("scheduler") not in SCHEDULERS:
        problems.append(f"expected scheduler={'|'.join(SCHEDULERS)}, got {facts.get('scheduler')!r} ({path})")
    if "KILONODE_RANKS_PER_NODE" not in exported:
        problems.append(f"expected export KILONODE_RANKS_PER_NODE=<number>, got none ({path})")
    if problems:
        raise UserError(*problems)
    return _site(name, facts, exported, path)


def _site(name: str, facts: Mapping[str, str], exported: Mapping[str, int], path: Path) -> Site:
    return Site(
        name=name,
        scheduler=facts["scheduler"],
        retired=facts.get("retired") == "yes",
        account=facts.get("account", ""),
        queue_option=facts.get("queue_option", ""),
        queue=facts.get("queue", ""),
        queues=tuple(_queue(row, path) for row in rows(facts.get("queues", ""))),
        directives=tuple(rows(facts.get("directives", ""))),
        ranks_per_node=exported["KILONODE_RANKS_PER_NODE"],
        cpus_per_node=exported.get("KILONODE_CPUS_PER_NODE"),
    )


def rows(table: str) -> list[str]:
    """Lines of a table in a site's file, without comments and blanks."""
    return [line for line in (" ".join(row.partition("#")[0].split()) for row in table.splitlines()) if line]


def _queue(row: str, path: Path) -> Queue:
    """``name nodes time queued running``: ``regular 1-3072 48h 5000 -``; ``-`` where no limit is known."""
    match = re.fullmatch(r"(\S+) (\d+)-(\d*) (?:(\d+)([mhd])|-) (\d+|-) (\d+|-)", row)
    if match is None:
        raise UserError(f"expected 'name from-to time queued running' in queues, got {row!r} ({path})")
    name, fewest, most, time, unit, queued, running = match.groups()
    return Queue(
        name=name,
        fewest=int(fewest),
        most=int(most) if most else None,
        minutes=int(time) * _MINUTES[unit] if time else None,
        queued=None if queued == "-" else int(queued),
        running=None if running == "-" else int(running),
    )
