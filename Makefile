# The verbs; `make` alone prints them.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONNOUSERSITE := 1
unexport PYTHONPATH PYTHONHOME
SCRIPTS = find .ci envs slurm -type f \( -path .ci/run -o -name '*.sh' -o -name '*.sbatch' \)

.PHONY: help env demo test lint clean

help: ## print these verbs
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 12

env: ## set up .venv (minutes the first time, then nothing): envs/README.md
	@envs/bootstrap.sh

demo: env ## the whole workflow at laptop size, ends with results/report.html
	.venv/bin/snakemake --workflow-profile workflow/profiles/local
	@echo "report: $(CURDIR)/results/report.html"

test: env ## all tests; those that need Slurm where it can be installed
	@slurm/testbed/install.sh || [ $$? -eq 2 ]   # 2: not possible here, it said why
	.venv/bin/python -m pytest

lint: env ## ruff, mypy, import-linter, snakefmt, codespell, shellcheck
	ruff check
	ruff format --check
	mypy
	lint-imports
	snakefmt --check Snakefile workflow
	codespell
	$(SCRIPTS) -exec shellcheck -x {} +
	shellcheck -s bash slurm/sites/*.env

clean: ## remove .venv and the tools' caches; results, logs and .snakemake stay
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache src/*.egg-info
	find src tests -name __pycache__ -type d -exec rm -rf {} +
