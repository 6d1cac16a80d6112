# The verbs; `make` alone prints them.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONNOUSERSITE := 1
unexport PYTHONPATH PYTHONHOME
SCRIPTS = find .ci envs slurm -type f \( -path .ci/run -o -name '*.sh' -o -name '*.sbatch' \)

.PHONY: help env demo test test-long test-kilonode lint clean

help: ## print these verbs
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 21

env: ## set up .venv (minutes the first time, then nothing): envs/README.md
	@envs/bootstrap.sh

# all tasks of a case, or those named: the whole on two cores within a quarter of an hour
DEMO = {ecog_speech: [syllables], extreme_weather: [patches, boxes], galaxy_shapes: [], lhc_events: [], mass_maps: [], reactor_neutrinos: []}

demo: env ## the whole workflow at laptop size, ends with results/report.html
	.venv/bin/snakemake --workflow-profile workflow/profiles/local --config 'cases=$(DEMO)'
	@echo "report: $(CURDIR)/results/report.html"

test: env ## all tests; those that need Slurm where it can be installed
	@slurm/testbed/install.sh || [ $$? -eq 2 ]   # 2: not possible here, it said why
	@envs/simgrid.sh || [ $$? -eq 2 ]
	@envs/chromium.sh || [ $$? -eq 2 ]
	.venv/bin/python -m pytest -n 2   # ranks and daemons often wait: two side by side

test-long: env ## those that take minutes: every fault on the testbed, 64 ranks
	@slurm/testbed/install.sh
	.venv/bin/python -m pytest -m long

test-kilonode: env ## 1,024 slurmd on this machine: one task on each, who came, how long a launch takes
	@slurm/testbed/install.sh
	slurm/testbed/thousand

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
