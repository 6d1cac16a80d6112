rule simulate:
    output:
        "results/{case}/{data}/raw/index.json",
    log:
        "logs/simulate/{case}.{data}.log",
    benchmark:
        "logs/simulate/{case}.{data}.tsv"
    wildcard_constraints:
        data="|".join(settings.TIERS),
    resources:
        nodes=1,
        launch="",
        layout="",
    params:
        simulation=part("simulation"),
        tables=part("tables"),
    shell:
        "{resources.launch} {resources.layout} kilonode simulate --case {wildcards.case} --data {wildcards.data} "
        "--output {output:q} 2>&1 | tee {log:q} >&2"


if OWN:

    rule ingest:
        input:
            source=lambda wildcards: OWN[wildcards.data]["input"],
        output:
            "results/{case}/{data}/raw/index.json",
        log:
            "logs/ingest/{case}.{data}.log",
        benchmark:
            "logs/ingest/{case}.{data}.tsv"
        wildcard_constraints:
            data="|".join(OWN),
        resources:
            nodes=1,
            launch="",
            layout="",
        params:
            data=data_argument,
            mapping=part("ingest"),
        shell:
            "{resources.launch} {resources.layout} kilonode ingest --case {wildcards.case} --data {params.data:q} "
            "--input {input.source:q} --output {output:q} 2>&1 | tee {log:q} >&2"


rule preprocess:
    input:
        "results/{case}/{data}/raw/index.json",
    output:
        index="results/{case}/{data}/store/{table}/index.json",
        stats="results/{case}/{data}/store/{table}/stats.json",
    log:
        "logs/preprocess/{case}.{data}.{table}.log",
    benchmark:
        "logs/preprocess/{case}.{data}.{table}.tsv"
    resources:
        nodes=1,
        launch="",
        layout="",
    params:
        data=data_argument,
        split=part("split"),
        storage=part("storage"),
    shell:
        "{resources.launch} {resources.layout} kilonode preprocess --case {wildcards.case} --data {params.data:q} "
        "--table {wildcards.table} --raw {input:q} --output {output.index:q} 2>&1 | tee {log:q} >&2"
