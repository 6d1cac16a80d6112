SUMMARY = str(Path(config["report"]).with_name("summary.json"))


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
        SUMMARY,
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
    shell:
        "kilonode report --summary {input:q} --output {output:q} 2>&1 | tee {log:q} >&2"
