"""Arguments of the verbs ``submit``, ``status`` and ``doctor``; the modules themselves are imported when called."""

from __future__ import annotations

import argparse
from pathlib import Path

Add = argparse.ArgumentParser


def submit(parser: Add) -> None:
    """Of ``kilonode submit``."""
    parser.add_argument(
        "--site", required=True, metavar="NAME", help="a file of slurm/sites: perlmutter-cpu, generic, ..."
    )
    parser.add_argument("--nodes", required=True, type=int, metavar="N", help="whole nodes of the allocation")
    parser.add_argument("--account", default="", metavar="NAME", help="who pays; most sites want one")
    parser.add_argument("--queue", default="", metavar="NAME", help="QOS or partition (default: the site's)")
    parser.add_argument("--minutes", type=int, default=60, metavar="N", help="time limit (default 60)")
    parser.add_argument("--ranks-per-node", type=int, metavar="N", help="MPI ranks on each node (default: the site's)")
    parser.add_argument("--name", default="kilonode", metavar="NAME", help="of the job (default kilonode)")
    parser.add_argument("--dry-run", action="store_true", help="print the exact text and end")
    parser.add_argument("snakemake", nargs="*", metavar="-- OPTION", help="words for snakemake, after --")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = """examples:
  kilonode submit --site perlmutter-cpu --nodes 1024 --account m0000 --dry-run
  kilonode submit --site generic --nodes 4 --minutes 30 -- --configfile workflow/config/ci.yaml
training saves itself near the time limit: submit the same again to continue
"""


def status(parser: Add) -> None:
    """Of ``kilonode status``."""
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path(), metavar="FOLDER", help="where the workflow runs (default: here)"
    )
    parser.add_argument("--json", dest="json_output", action="store_true", help="one JSON object")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = """examples:
  kilonode status
  kilonode status /scratch/me/kilonode --json | jq .trainings
"""


def doctor(parser: Add) -> None:
    """Of ``kilonode doctor``."""
    parser.add_argument(
        "--site", default="", metavar="NAME", help="a file of slurm/sites (default: $KILONODE_SITE, generic)"
    )
    parser.add_argument(
        "--patience-s", type=float, default=120.0, metavar="S", help="wait so long for all ranks (default 120)"
    )
    parser.add_argument("--json", dest="json_output", action="store_true", help="one JSON object")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = """examples:
  kilonode doctor                                     this machine
  salloc -N 4 kilonode doctor --site perlmutter-cpu   every node of an allocation
exit status 1 if something is wrong, with the remedy
"""
