"""Hyperparameter search: many trials side by side in one allocation, one writer, test groups never opened.

``tune`` is the stage. ``space`` says what may vary, ``study`` which trial comes next and what is remembered, ``pool``
where trials run, ``trial`` what one does, ``folds`` on which samples, ``outputs`` and ``pictures`` what is left behind.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kilonode.cases import SMALL


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("--case", required=True, metavar="NAME", help="what is studied; a folder of src/kilonode/cases")
    parser.add_argument("--task", required=True, metavar="NAME", help="one of the case's tasks")
    parser.add_argument(
        "--data", default="demo", metavar="TIER|MAPPING", help="toy, demo, article, or a mapping file (default demo)"
    )
    parser.add_argument(
        "--method", default="network", metavar="NAME", help="network, or baseline: all classical methods of the task"
    )
    parser.add_argument("--trials", type=int, metavar="N", help="how many, in each fold (default: case.yaml)")
    parser.add_argument(
        "--workers", type=int, default=1, metavar="W", help="processes where there is no launcher (default 1)"
    )
    parser.add_argument(
        "--ranks-per-trial",
        type=int,
        default=1,
        metavar="N",
        help="MPI ranks that train a network together (default 1)",
    )
    parser.add_argument("--sampler", metavar="NAME", help="tpe, gp or random (default: case.yaml, else tpe)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the search and of every training (default 0)"
    )
    parser.add_argument("--store", type=Path, metavar="PATH", help="index of the store (default: the workflow's)")
    parser.add_argument("--folder", type=Path, metavar="PATH", help="journal and results (default: the workflow's)")
    parser.add_argument("--time-left", default="", metavar="[D-]H:M:S", help="stop in time, as squeue -o %%L prints it")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"""examples:
  kilonode tune --case {SMALL} --task classifier --data toy --trials 20 --workers 2
  mpiexec -n 5 kilonode tune --case {SMALL} --task classifier --data toy --trials 400
the first of the ranks hands out trials; run the same again to continue a search that was stopped or killed
"""
