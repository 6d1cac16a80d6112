"""The best layout of a node as a profile of the workflow: ``kilonode run --profile NAME`` trains with it.

A profile says how the machine is used: ranks, and the cores the rule takes. Threads of a rank and precision stand in
the task's ``training`` section and change the bits of a result; where the measured choice differs, the profile's launch
line hands it to training in ``KILONODE_TRAINING`` (``kilonode.training.rules``), which makes it another run. The global
batch is science: it stays with the task.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from kilonode import config
from kilonode.errors import UserError, near
from kilonode.records import Json, complete, write_text
from kilonode.scaling.plan import Plan

HEAD = """# Written by `kilonode scaling node` for {case}/{task}; made from profile `{base}`. On {cores} cores
# ({cpu}) {ranks} ranks of {threads} threads in {precision} were the fastest whose loss was right.
"""


def profile(name: str) -> tuple[str, Json]:
    """A profile of the workflow by name, with its content.

    Raises
    ------
    UserError
        No such profile, or one whose training is not started by mpiexec.
    """
    from kilonode.report.run import checkout

    home = checkout() / "workflow" / "profiles"
    known = sorted(path.parent.name for path in home.glob("*/profile.yaml"))
    if name not in known:
        raise UserError(f"expected a profile, got {name!r} (--base); {near(name, known)}")
    content = config.read_yaml(home / name / "profile.yaml")
    if "mpiexec" not in str(content.get("set-resources", {}).get("train", {}).get("launch")):
        raise UserError(f"expected a profile that starts training by mpiexec, got {name} (--base); take local")
    return name, content


def changed(content: Json, best: Plan, training: Json) -> Json:
    """The profile with the layout in its rule ``train``.

    Parameters
    ----------
    content : dict
        A profile.
    best : Plan
        The layout.
    training : dict
        The task's own section: what agrees with it is not said again.
    """
    own = {"threads": training["threads"], "precision": training.get("precision", "fp32")}
    other = {name: getattr(best, name) for name in own if getattr(best, name) != own[name]}
    said = ",".join(f"{name}={value}" for name, value in other.items())
    launch = f"env KILONODE_TRAINING={said} mpiexec" if said else "mpiexec"
    train: Json = {"launch": repr(launch), "layout": repr(f"-n {best.ranks}")}
    threads = {"train": best.ranks * best.threads}
    return config.merged(content, {"set-resources": {"train": train}, "set-threads": threads})


def write(folder: Path, base: tuple[str, Json], best: Plan, training: Json) -> None:
    """Write ``profile.yaml``."""
    from kilonode.records import conditions

    here = conditions()
    head = HEAD.format(**vars(best), base=base[0], cores=here["cores"], cpu=here["cpu"])
    write_text(folder / "profile.yaml", head + yaml.safe_dump(changed(base[1], best, training), sort_keys=False))


def save(drawn: Any, path: Path) -> None:
    """A figure as PNG, atomically."""
    with complete(path) as temporary:
        drawn.savefig(temporary, format="png", dpi=150)
