"""kilonode: simulate or ingest -> preprocess -> train -> evaluate -> explain -> gather -> report."""

from snakemake.utils import min_version

min_version("9.19")


configfile: f"{workflow.basedir}/workflow/config/demo.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/explain.smk"
include: "workflow/rules/report.smk"


localrules:
    all,
    gather,
    report,


rule all:
    default_target: True
    input:
        config["report"],
