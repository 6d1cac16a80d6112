rule evaluate:
    input:
        store=store_of,
        tuned=searches,
        weights="results/{case}/{data}/{task}/seed-{seed}/weights.safetensors",
    output:
        record="results/{case}/{data}/{task}/seed-{seed}/evaluation.json",
        curves="results/{case}/{data}/{task}/seed-{seed}/curves.h5",
    log:
        "logs/evaluate/{case}.{data}.{task}.seed-{seed}.log",
    benchmark:
        "logs/evaluate/{case}.{data}.{task}.seed-{seed}.tsv"
    resources:
        nodes=1,
        launch="",
        layout="",
    params:
        data=data_argument,
        tuned=tuned_folder,
        read_outs=part("tasks", "{task}", "read_outs"),
        measures=part("tasks", "{task}", "measures"),
    shell:
        "OMP_NUM_THREADS={threads} {resources.launch} {resources.layout} kilonode evaluate --case {wildcards.case} "
        "--task {wildcards.task} --data {params.data:q} --seed {wildcards.seed} --store {input.store:q} "
        "--weights {input.weights:q} --output {output.record:q} --curves {output.curves:q} {params.tuned} 2>&1 | tee {log:q} >&2"


rule explain:
    input:
        store=store_of,
        tuned=searches,
        weights="results/{case}/{data}/{task}/seed-{seed}/weights.safetensors",
        metrics="results/{case}/{data}/{task}/seed-{seed}/metrics.json",
        curves="results/{case}/{data}/{task}/seed-{seed}/curves.h5",
    output:
        record="results/{case}/{data}/{task}/seed-{seed}/explanation.json",
        maps="results/{case}/{data}/{task}/seed-{seed}/maps.h5",
        figures=report(
            directory("results/{case}/{data}/{task}/seed-{seed}/figures"),
            patterns=["{figure}.png"],
            caption="../report/figure.rst",
            category="{case}",
            subcategory="{data}: {task}",
            labels={"figure": "{figure}", "seed": "{seed}"},
        ),
    log:
        "logs/explain/{case}.{data}.{task}.seed-{seed}.log",
    benchmark:
        "logs/explain/{case}.{data}.{task}.seed-{seed}.tsv"
    resources:
        nodes=1,
        launch="",
        layout="",
    params:
        data=data_argument,
        tuned=tuned_folder,
        columns=part("tasks", "{task}", "columns"),
        explain=part("tasks", "{task}", "explain"),
    shell:
        "OMP_NUM_THREADS={threads} {resources.launch} {resources.layout} kilonode explain --case {wildcards.case} "
        "--task {wildcards.task} --data {params.data:q} --store {input.store:q} --weights {input.weights:q} "
        "--curves {input.curves:q} --history {input.metrics:q} --output {output.record:q} "
        "--figures {output.figures:q} --embedding {output.maps:q} --seed {wildcards.seed} {params.tuned} 2>&1 | tee {log:q} >&2"
