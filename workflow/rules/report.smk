SUMMARY = str(Path(config["report"]).with_name("summary.json"))


def scaling_records(wildcards):
    """What `kilonode scaling run` measured on tasks of the page: shown where it exists, never made by a rule."""
    tasks = dict.fromkeys(Path(run).parent.relative_to("results") for run in runs())
    records = [Path("results/scaling") / task / "scaling.json" for task in tasks]
    return [str(record) for record in records if record.exists()]


rule gather:
    input:
        records=[f"{run}/evaluation.json" for run in runs()],
        others=[
            f"{run}/{name}"
            for run in runs()
            for name in ("explanation.json", "metrics.json", "maps.h5", "figures")
        ],
    output:
        summary=SUMMARY,
        table=report(
            str(Path(SUMMARY).with_suffix(".csv")),
            caption="../report/table.rst",
            category="Summary",
            labels={"what": "all numbers"},
        ),
        overview=report(
            str(Path(SUMMARY).with_name("overview.csv")),
            caption="../report/overview.rst",
            category="Summary",
            labels={"what": "who won"},
        ),
        cards=directory(str(Path(SUMMARY).with_name("model_cards"))),
    log:
        "logs/gather.log",
    benchmark:
        "logs/gather.tsv"
    shell:
        "kilonode gather {input.records:q} --output {output.summary:q} 2>&1 | tee {log:q} >&2"


rule report:
    input:
        summary=SUMMARY,
        scaling=scaling_records,
    output:
        report(
            config["report"],
            caption="../report/page.rst",
            category="Summary",
            labels={"what": "the page"},
        ),
    log:
        "logs/report.log",
    benchmark:
        "logs/report.tsv"
    params:
        scaling=lambda wildcards, input: [f"--scaling={path}" for path in input.scaling],
    shell:
        "kilonode report --summary {input.summary:q} {params.scaling:q} --output {output:q} 2>&1 | tee {log:q} >&2"
