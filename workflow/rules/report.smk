SUMMARY = str(Path(config["report"]).with_name("summary.json"))


rule gather:
    input:
        records=[f"{run}/evaluation.json" for run in runs()],
        others=[
            f"{run}/{name}"
            for run in runs()
            for name in ("explanation.json", "metrics.json", "figures")
        ],
    output:
        summary=SUMMARY,
        table=str(Path(SUMMARY).with_suffix(".csv")),
    log:
        "logs/gather.log",
    benchmark:
        "logs/gather.tsv"
    shell:
        "kilonode gather {input.records:q} --output {output.summary:q} 2>&1 | tee {log:q} >&2"


rule report:
    input:
        SUMMARY,
    output:
        config["report"],
    log:
        "logs/report.log",
    benchmark:
        "logs/report.tsv"
    shell:
        "kilonode report --summary {input:q} --output {output:q} 2>&1 | tee {log:q} >&2"
