"""The verbs. Parsing only: a stage is imported when it is called, so that ``--help`` and ``check`` are quick."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from importlib import import_module
from pathlib import Path
from types import FrameType

from kilonode import __version__, bench, scaling, tuning
from kilonode.errors import EXIT_USER, UserError
from kilonode.slurm import arguments as slurm

EXAMPLES = """examples:
  kilonode run --case reactor_neutrinos --tier toy          one case, small, from nothing to its report
  kilonode run --case reactor_neutrinos --dry-run           what would run, and why
  kilonode run --data mapping.yaml --input mine.h5          the same on your own data
  kilonode check results/reactor_neutrinos/demo/store/pairs/train-00000.h5
  mpiexec -n 2 kilonode train --help                        every rule of the workflow is a verb
"""

Add = argparse.ArgumentParser


def _case(parser: Add, task: bool = True) -> None:
    parser.add_argument("--case", required=True, metavar="NAME", help="what is studied; a folder of src/kilonode/cases")
    if task:
        parser.add_argument("--task", required=True, metavar="NAME", help="one of the case's tasks")
    parser.add_argument("--data", required=True, metavar="TIER|MAPPING", help="toy, demo, article, or a mapping file")


def _paths(parser: Add, **help_of: str) -> None:
    for name, text in help_of.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", dest=name, required=True, type=Path, metavar="PATH", help=text
        )


def _tuned(parser: Add) -> None:
    parser.add_argument("--tuned", type=Path, metavar="PATH", help="folder of searches; the best configuration is used")


def _simulate(parser: Add) -> None:
    _case(parser, task=False)
    _paths(parser, output="index to write: .../raw/index.json")


def _ingest(parser: Add) -> None:
    _case(parser, task=False)
    _paths(parser, input="the source file", output="index to write: .../raw/index.json")


def _preprocess(parser: Add) -> None:
    _case(parser, task=False)
    parser.add_argument("--table", required=True, metavar="NAME", help="one of the data set's tables")
    _paths(parser, raw="index of the raw folder", output="index to write: .../store/TABLE/index.json")


def _stage(parser: Add) -> None:
    _paths(parser, store="index of the store: .../index.json", to="folder of the copy, on each node")
    parser.add_argument("--truth", action="store_true", help="also what only evaluation may open")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = """the last line of stdout is the index to use: the copy, or the original where room is short
example:
  store="$(mpiexec -n 2 kilonode stage --store results/CASE/demo/store/pairs/index.json --to "$TMPDIR/pairs")"
"""


def _train(parser: Add) -> None:
    _case(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of weights, order and noise (default 0)")
    _paths(parser, store="index of the store", state="folder for checkpoints and records; a rerun continues from it")
    _tuned(parser)
    parser.add_argument(
        "--backend", choices=("horovod", "mpi4py"), default="horovod", help="who adds gradients (default horovod)"
    )
    parser.add_argument(
        "--time-left", default="", metavar="[D-]H:M:S", help="stop in time to save, as squeue -o %%L prints it"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="what computes (default cpu)")
    parser.add_argument(
        "--patience-s",
        type=float,
        default=600.0,
        metavar="S",
        help="end all ranks when a step takes longer, and 20 usual steps (default 600)",
    )


def _finish(parser: Add) -> None:
    _paths(
        parser,
        state="folder of a training",
        weights="weights to write (.safetensors)",
        metrics="record to write (.json)",
    )


def _evaluate(parser: Add) -> None:
    _case(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the training (default 0)")
    _paths(
        parser,
        store="index of the store",
        weights="trained weights",
        output="record to write",
        curves="scores to write (.h5)",
    )
    _tuned(parser)


def _explain(parser: Add) -> None:
    _case(parser)
    _paths(
        parser,
        store="index of the store",
        weights="trained weights",
        curves="scores that evaluate wrote",
        history="metrics.json of the training",
        output="record to write",
        figures="folder to write",
        embedding="t-SNE maps to write (.h5)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the training (default 0)")
    _tuned(parser)


def _gather(parser: Add) -> None:
    parser.add_argument("records", nargs="+", type=Path, help="records that evaluate and explain wrote")
    _paths(parser, output="summary to write (.json); a .csv of the same name stands beside it")


def _report(parser: Add) -> None:
    _paths(parser, summary="summary that gather wrote", output="page to write (.html)")
    text = "what `kilonode scaling run --json` printed; may be repeated"
    parser.add_argument("--scaling", action="append", type=Path, metavar="PATH", help=text)


def _publish(parser: Add) -> None:
    _paths(parser, summary="summary that gather wrote", output="record to write: docs/results/CASE.TIER.json")


def _compare(parser: Add) -> None:
    text = "a folder of results, a summary.json or a published record; the second is compared with the first"
    parser.add_argument("runs", nargs=2, type=Path, metavar="RUN", help=text)
    parser.add_argument("--json", dest="json_output", action="store_true", help="one JSON object")
    parser.add_argument("--output", type=Path, metavar="PATH", help="also a page (.html)")


def _describe(parser: Add) -> None:
    text = "what is described; may be repeated (default: all)"
    parser.add_argument("--case", action="append", default=[], metavar="NAME", help=text)
    for name, where, text in (
        ("records", "docs/results", "folder of published records"),
        ("output", "docs/cases", "folder of the pages, CASE.md each"),
    ):
        parser.add_argument(
            f"--{name}", type=Path, default=Path(where), metavar="PATH", help=f"{text} (default {where})"
        )


def _check(parser: Add) -> None:
    parser.add_argument("file", nargs="+", type=Path, help="raw or store files of kilonode")
    parser.add_argument("--json", dest="json_output", action="store_true", help="one JSON object a file")


def _run(parser: Add) -> None:
    parser.add_argument("--case", metavar="NAME", help="what is studied (default: the mapping's)")
    parser.add_argument(
        "--task", action="append", default=[], metavar="NAME", help="one of its tasks; may be repeated (default: all)"
    )
    parser.add_argument(
        "--tier", default="demo", choices=("toy", "demo", "article"), help="size of the simulation (default demo)"
    )
    parser.add_argument(
        "--data", type=Path, metavar="MAPPING", help="mapping file for your own data, instead of a simulation"
    )
    parser.add_argument("--input", type=Path, metavar="FILE", help="your data; goes with --data")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="trainings with seeds 0..N-1 (default 1)")
    parser.add_argument(
        "--profile", default="local", metavar="NAME", help="a folder of workflow/profiles (default local)"
    )
    parser.add_argument("--until", metavar="STAGE", help="stop after this stage")
    parser.add_argument(
        "--force", action="append", default=[], metavar="STAGE", help="run this stage and what follows again"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would run and why, and end")
    parser.add_argument("snakemake", nargs="*", metavar="-- OPTION", help="anything else for snakemake, after --")


def _bench(parser: Add) -> None:
    parser.add_argument("what", choices=bench.names(), help="a module of src/kilonode/bench")
    text = "the benchmark's own, with --json and --strict; `kilonode bench WHAT --help` prints them"
    parser.add_argument("options", nargs=argparse.REMAINDER, metavar="OPTION", help=text)


def _scaling(parser: Add) -> None:
    help = "measure a node or a series, predict, advise, simulate, compare with earlier"
    parser.add_argument("what", choices=scaling.NAMES, help=help)
    text = "its own, with --json and --strict; `kilonode scaling WHAT --help` prints them with examples"
    parser.add_argument("options", nargs=argparse.REMAINDER, metavar="OPTION", help=text)


# verb: module, its parser, one line
VERBS = {
    "run": ("kilonode.report.run", _run, "build part of the workflow: a front to snakemake"),
    "simulate": ("kilonode.data.simulate", _simulate, "make a case's raw shards (MPI)"),
    "ingest": ("kilonode.data.ingest", _ingest, "turn your own file into raw shards (MPI)"),
    "preprocess": ("kilonode.data.preprocess", _preprocess, "split, shuffle and measure raw shards (MPI)"),
    "stage": ("kilonode.data.stage", _stage, "copy a store to each node's own storage (MPI)"),
    "tune": ("kilonode.tuning.tune", tuning.arguments, "search hyperparameters of a network or its rivals (MPI)"),
    "train": ("kilonode.training.train", _train, "train a network; a rerun continues (Horovod)"),
    "finish": ("kilonode.training.finish", _finish, "turn a training's state into outputs and an exit code"),
    "evaluate": ("kilonode.evaluation.evaluate", _evaluate, "metrics with intervals, beside the baselines"),
    "explain": ("kilonode.explain.explain", _explain, "t-SNE, saliency and figures"),
    "gather": ("kilonode.report.gather", _gather, "one table of all records"),
    "report": ("kilonode.report.page", _report, "one self-contained page"),
    "compare": ("kilonode.report.compare", _compare, "two runs side by side: what differs beyond noise"),
    "publish": ("kilonode.report.publish", _publish, "a summary as a record without names of machines and folders"),
    "describe": ("kilonode.report.describe", _describe, "one Markdown page a case, from its docstrings and records"),
    "submit": ("kilonode.slurm.submit", slurm.submit, "write and submit an allocation that runs the workflow"),
    "status": ("kilonode.slurm.status", slurm.status, "how far jobs, workflow and trainings are"),
    "doctor": (
        "kilonode.slurm.doctor",
        slurm.doctor,
        "what is wrong with this machine or allocation; remedies",
    ),
    "check": ("kilonode.data.check", _check, "print what a data file holds, or why it is not to be trusted"),
    "scaling": ("kilonode.scaling", _scaling, "what more nodes will give, and what to change first"),
    "bench": ("kilonode.bench", _bench, "measure this machine, or print what was measured"),
}


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="kilonode",
        description="From raw HDF5 science data to trained, explained, benchmarked networks on O(1000) Slurm nodes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"kilonode {__version__}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, (_, add, text) in VERBS.items():
        add(verbs.add_parser(name, help=text, description=text))
    return top


def main(argv: list[str] | None = None) -> None:
    """Run one verb; exit 0, 2 for what the user can mend, 75 for "stopped, run me again", 1 for a defect."""
    arguments = vars(parser().parse_args(argv))
    verb = arguments.pop("verb")
    if verb in ("train", "tune"):
        # Before torch is imported: the default action of these signals ends a rank that is still loading.
        for number in (signal.SIGUSR1, signal.SIGTERM):
            signal.signal(number, _note_stop)
    try:
        status = import_module(VERBS[verb][0]).run(**arguments)
    except UserError as error:
        _leave(error.problems, EXIT_USER)
    except BrokenPipeError:  # whoever read our output has enough, as in `kilonode bench demo | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        where = error.filename or "no file named"
        _leave(
            (f"expected to read or write, got {error.strerror or error} ({where}); check the path and permissions",),
            EXIT_USER,
        )
    except KeyboardInterrupt:
        _leave(("interrupted; run the same command to continue",), 130)
    except Exception:
        _leave((traceback.format_exc().rstrip(),), 1)
    if verb in ("train", "tune"):
        # All is saved. While it ends, Python gives signals their default action back: USR1 would make it a failure.
        for number in (signal.SIGUSR1, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    sys.exit(status or 0)


def _note_stop(number: int, frame: FrameType | None) -> None:
    os.environ["KILONODE_STOP"] = signal.Signals(number).name


def _leave(lines: tuple[str, ...], code: int) -> None:
    """Print the reasons once for all ranks and end all of them."""
    comm = sys.modules.get("kilonode.comm")
    everybody = comm.failed(lines, code) if comm is not None else lines
    for line in everybody:
        print(f"kilonode: {line}" if code == EXIT_USER else line, file=sys.stderr)
    sys.stderr.flush()
    sys.exit(code)
