"""How far Snakemake is: read from the newest log it wrote in a folder."""

from __future__ import annotations

import re
from pathlib import Path

from kilonode.records import Json

_STATS = re.compile(r"^total +(\d+)$", re.MULTILINE)
_DONE = re.compile(r"^(\d+) of (\d+) steps \(.*\) done$", re.MULTILINE)
_STARTED = re.compile(r"^(?:local)?rule (\w+):\n(?:    .*\n)*?    jobid: (\d+)$", re.MULTILINE)
_FINISHED = re.compile(r"^Finished jobid: (\d+) ", re.MULTILINE)
_FAILED = re.compile(r"^Error in rule (\w+):\n(?:    .*\n)*?    jobid: (\d+)$", re.MULTILINE)


def progress(folder: Path) -> Json | None:
    """Steps done, of how many, and which rules run or failed; None where no workflow was started.

    A log without a plan (a lint, a dry run of nothing) is passed over. ``running`` is Snakemake's own lock on the
    folder, which a killed head leaves behind; then the running rules are those that it had started.
    """
    for log in sorted((folder / ".snakemake/log").glob("*.snakemake.log"), reverse=True):
        text = log.read_text(errors="replace")
        total = _STATS.search(text)
        if total is not None and "dry-run" not in text:
            locked = any((folder / ".snakemake/locks").glob("*"))
            return {"log": str(log.relative_to(folder)), "running": locked, **_counted(text, int(total[1]), locked)}
    return None


def _counted(text: str, total: int, locked: bool) -> Json:
    done = _DONE.findall(text)
    begun: dict[str, str] = {}  # job: rule; a job that is tried again is started twice
    events = [(match.start(), "begin", match[2], match[1]) for match in _STARTED.finditer(text)]
    events += [(match.start(), "end", match[1], "") for match in _FINISHED.finditer(text)]
    events += [(match.start(), "fail", match[2], match[1]) for match in _FAILED.finditer(text)]
    failed: dict[str, str] = {}
    for _, kind, job, rule in sorted(events):
        if kind == "begin":
            begun[job] = rule
            failed.pop(job, None)
        else:
            begun.pop(job, None)
            if kind == "fail":
                failed[job] = rule
    return {
        "done": int(done[-1][0]) if done else 0,
        "total": total,
        "running_rules": sorted(begun.values()) if locked else [],
        "failed_rules": sorted(failed.values()),
    }
