# Checkpoints live in `state`, which is no output: Snakemake removes outputs before and after a failed job.
rule train:
    input:
        store=store_of,
        tuned=searches,
    output:
        weights="results/{case}/{data}/{task}/seed-{seed}/weights.safetensors",
        metrics="results/{case}/{data}/{task}/seed-{seed}/metrics.json",
    log:
        "logs/train/{case}.{data}.{task}.seed-{seed}.log",
    benchmark:
        "logs/train/{case}.{data}.{task}.seed-{seed}.tsv"
    resources:
        nodes=1,
        mpi="",
        launch="",
        layout="",
    params:
        data=data_argument,
        state="results/{case}/{data}/{task}/seed-{seed}/state",
        tuned=tuned_folder,
        table=part("tasks", "{task}", "table"),
        inputs=part("tasks", "{task}", "input"),
        target=part("tasks", "{task}", "target"),
        model=part("tasks", "{task}", "model"),
        training=part("tasks", "{task}", "training"),
    shell:
        'store={input.store:q}; if [ -n "${{KILONODE_LOCAL:-}}" ]; then store="$('
        "{resources.launch} {resources.layout} kilonode stage --store {input.store:q} "
        '--to "$KILONODE_LOCAL/$(echo {input.store:q} | tr / .)" | tail -n 1)"; fi; '
        'left="$(squeue -h -j "${{SLURM_JOB_ID:-0}}" -o %L 2>/dev/null || true)"; '
        "{resources.launch} {resources.layout} kilonode train --case {wildcards.case} --task {wildcards.task} "
        '--data {params.data:q} --seed {wildcards.seed} --store "$store" --state {params.state:q} '
        '--time-left "$left" {params.tuned} 2>&1 | tee {log:q} >&2; '
        "kilonode finish --state {params.state:q} --weights {output.weights:q} --metrics {output.metrics:q} "
        "2>&1 | tee -a {log:q} >&2"


# The journal lives in `state`, which is no output: the same command continues a search.
rule tune:
    input:
        store=store_of,
    output:
        best="results/{case}/{data}/{task}/tuning/{method}/best.json",
    log:
        "logs/tune/{case}.{data}.{task}.{method}.log",
    benchmark:
        "logs/tune/{case}.{data}.{task}.{method}.tsv"
    wildcard_constraints:
        method="network|baseline",
    resources:
        nodes=1,
        launch="",
        layout="",
    params:
        data=data_argument,
        folder="results/{case}/{data}/{task}/tuning/{method}",
        table=part("tasks", "{task}", "table"),
        inputs=part("tasks", "{task}", "input"),
        target=part("tasks", "{task}", "target"),
        model=part("tasks", "{task}", "model"),
        training=part("tasks", "{task}", "training"),
        tuning=part("tasks", "{task}", "tuning"),
    shell:
        'left="$(squeue -h -j "${{SLURM_JOB_ID:-0}}" -o %L 2>/dev/null || true)"; '
        "{resources.launch} {resources.layout} kilonode tune --case {wildcards.case} --task {wildcards.task} "
        "--data {params.data:q} --method {wildcards.method} --workers {threads} --store {input.store:q} "
        '--folder {params.folder:q} --time-left "$left" 2>&1 | tee {log:q} >&2'
