"""The roll call of an allocation: one light task on 1, 2, 4, ... all of its nodes; who came, and how long it took.

sbatch -N 1024 slurm/allocation.sbatch --snakefile workflow/rollcall.smk
"""

import os
from itertools import takewhile

from snakemake.utils import min_version

min_version("9.19")

ALLOCATED = "SLURM_JOB_NUM_NODES" in os.environ
NODES = int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
COUNTS = [*takewhile(lambda count: count < NODES, (2**k for k in range(20))), NODES]


wildcard_constraints:
    nodes="[0-9]+",


localrules:
    roll,


rule roll:
    default_target: True
    input:
        [f"results/rollcall/{count}.json" for count in reversed(COUNTS)],
    output:
        summary="results/rollcall/summary.json",
        figure=report("results/rollcall/summary.png", category="launch"),
    log:
        "logs/rollcall/roll.log",
    shell:
        "python -m kilonode.slurm.roll {input:q} --output {output.summary:q} 2>&1 | tee {log:q} >&2"


# Every call takes all tokens: what is timed is alone.
rule muster:
    output:
        "results/rollcall/{nodes}.json",
    log:
        "logs/rollcall/{nodes}.log",
    resources:
        nodes=NODES,
    params:
        rounds=lambda wildcards: 2 if int(wildcards.nodes) == NODES else 1,
        launcher="srun -N {nodes} -n {nodes} -c 1" if ALLOCATED else "",
    shell:
        "python -m kilonode.slurm.muster --nodes {wildcards.nodes} --rounds {params.rounds} --output {output:q} "
        "-- {params.launcher} 2>&1 | tee {log:q} >&2"
