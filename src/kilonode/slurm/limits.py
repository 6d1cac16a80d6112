"""What a site would refuse, said before anything is submitted.

Limits change: where the scheduler knows better than ``slurm/sites/<site>.env``, the row there is to be mended.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from kilonode.errors import near
from kilonode.slurm.batch import Request
from kilonode.slurm.queue import Job
from kilonode.slurm.sites import Queue, Site


def problems(site: Site, request: Request, jobs: Sequence[Job] = ()) -> list[str]:
    """Why the site would refuse the request; empty: nothing is known against it.

    Parameters
    ----------
    site, request
        What is asked of whom.
    jobs : sequence of Job
        Of this user, waiting and running.
    """
    found = _account(site, request)
    named = [row for row in site.queues if row.name == request.queue]
    if site.queues and request.queue and not named:
        close = near(request.queue, {row.name for row in site.queues})
        return [*found, f"expected a queue of {site.name}, got {request.queue!r} (--queue); {close}"]
    fitting = next((row for row in named if row.takes(request.nodes)), None)
    if named and fitting is None:
        sizes, other = " or ".join(row.sizes for row in named), _others(site, request)
        return [*found, f"expected {sizes} in queue {request.queue}, got {request.nodes} (--nodes); {other}"]
    if fitting is not None:
        found += _time_and_number(site, fitting, request, jobs)
    return found


def _account(site: Site, request: Request) -> list[str]:
    if site.account and not request.account:
        return [f"expected an account, got none (--account); {site.name} charges every job to one"]
    if request.account and site.account and not fnmatchcase(request.account, site.account):
        file = f"slurm/sites/{site.name}.env"
        return [f"expected an account like {site.account}, got {request.account!r} (--account); {file} says why"]
    return []


def _time_and_number(site: Site, queue: Queue, request: Request, jobs: Sequence[Job]) -> list[str]:
    found = []
    if queue.minutes is not None and request.minutes > queue.minutes:
        found.append(
            f"expected at most {queue.minutes} minutes for {request.nodes} nodes in queue {queue.name} of {site.name}, "
            f"got {request.minutes} (--minutes); training continues in the next allocation"
        )
    mine = len(_mine(queue, jobs))
    if queue.queued is not None and mine >= queue.queued:
        found.append(
            f"expected at most {queue.queued} jobs of yours in queue {queue.name} of {site.name}, "
            f"got {mine} and this one; wait for one to end, or cancel one"
        )
    return found


def _mine(queue: Queue, jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if queue.name in (job.partition, job.qos)]


def waits(site: Site, request: Request, jobs: Sequence[Job]) -> str:
    """Why the job will wait for others of this user; empty: nothing is known."""
    queue = next((row for row in site.queues if row.name == request.queue and row.takes(request.nodes)), None)
    if queue is None or queue.running is None:
        return ""
    running = sum(job.state == "RUNNING" for job in _mine(queue, jobs))
    if running < queue.running:
        return ""
    most = f"queue {queue.name} of {site.name} runs {queue.running} of your jobs at a time"
    return f"{most}, {running} are running: this one waits"


def _others(site: Site, request: Request) -> str:
    """Which queues would take a job of this size."""
    other = sorted({row.name for row in site.queues if row.takes(request.nodes)})
    return f"take --queue {' or '.join(other)}" if other else f"no queue of {site.name} takes as many"
