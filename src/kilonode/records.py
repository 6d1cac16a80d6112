"""Files that appear complete or not at all, and the record that stands behind every number."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from kilonode.errors import UserError

Json = dict[str, Any]
PACKAGE = Path(__file__).parent
UMASK = os.umask(0o022)
os.umask(UMASK)  # the only way to read it is to set it


@contextlib.contextmanager
def complete(path: Path) -> Iterator[Path]:
    """Write under a temporary name in the same folder; the file gets its name when the block ends well.

    Finished means renamed: a reader never sees half a file, and a failed block leaves nothing.

    Raises
    ------
    UserError
        The folder cannot be written or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~UMASK)  # some writers make files that only the owner can read
        temporary.replace(path)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error  # HDF5's own text is a paragraph
        raise UserError(f"expected to write, got {reason} ({path}); check permissions and free space there") from error
    finally:
        with contextlib.suppress(OSError):  # no such folder, or a read-only one: the reason is on its way already
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a whole text file, atomically."""
    with complete(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write JSON with sorted keys, atomically. NaN and infinity become null: JSON has neither."""
    write_text(path, json.dumps(finite(content), indent=1, sort_keys=True, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """The value with every float that JSON cannot say replaced by None, and numpy scalars by Python's."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, float) and not (float("-inf") < value < float("inf")):
        return None
    return value


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises
    ------
    UserError
        Missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"expected a file, got nothing ({path}); run the stage that writes it") from None
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, numbers of 5000 digits, lists in lists in lists
        raise UserError(f"expected JSON, got {error} ({path}); delete it and rerun its stage") from None


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, keys sorted: the identity of a configuration."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def commit() -> str:
    """The checkout's commit, with ``+`` where tracked files differ from it; ``unknown`` outside a checkout."""
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


@cache
def versions() -> dict[str, str]:
    """Versions of what can change a number."""
    found = {"python": platform.python_version()}
    names = (
        "kilonode",
        "torch",
        "horovod",
        "mpi4py",
        "mpich",
        "numpy",
        "h5py",
        "scikit-learn",
        "openTSNE",
        "snakemake",
    )
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def conditions(**more: Any) -> Json:
    """Where, when and with what a number was made: the ``conditions`` of every record."""
    return {
        "host": socket.gethostname(),
        "node": os.environ.get("SLURMD_NODENAME"),
        "cores": len(os.sched_getaffinity(0)),
        "cpu": cpu_name(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": versions(),
        "command": " ".join(Path(word).name if i == 0 else word for i, word in enumerate(sys.argv)),
        **more,
    }


@cache
def cpu_name() -> str:
    """The processor as /proc/cpuinfo names it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def figure(
    name: str,
    value: float | None,
    unit: str = "1",
    interval: tuple[float, float] | None = None,
    target: float | None = None,
    met: bool | None = None,
    **more: Any,
) -> Json:
    """One measured number in the shape every ``--json`` prints (schemas/bench.json)."""
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "interval": list(interval) if interval is not None else None,
        "target": target,
        "met": met,
        **more,
    }
