# Everything runs in .venv, which `make env` builds from requirements.lock. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
# The stamp's name follows the content of the two files, so a clone with new dates installs nothing again.
STAMP := .venv/.installed-$(shell cat requirements.lock pyproject.toml | cksum | tr ' ' '-')

.PHONY: help env lint lab bench claims batch test figures lock clean

help: ## list the targets
	@grep -hE '^[a-z][A-Za-z%-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F '\t' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo "  make fig-NAME   run the notebook that draws the figure NAME, see figures/INDEX.md"
	@echo "  make nb-030     run notebook 030 at the quick profile and store its outputs in place"

env: $(STAMP) ## create .venv and install the locked environment (Python 3.11-3.13)

$(STAMP):
	@tools/env.sh $@

lint: env ## style, formatting and types
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

lab: env ## open JupyterLab on the notebooks
	@$(PY) -m jupyterlab --notebook-dir=notebooks

bench: env ## measure speed against plain loops and other libraries
	@$(PY) tests/benchmarks/run.py

claims: env ## judge every claim at the quick profile, and on the rows measured on images, into results/claims-*.csv
	@$(PY) -m lt_lib claims --out runs/claims
	@for part in claims.csv claims.json errata.csv; do \
		target=results/$${part%.*}-quick.$${part##*.}; cp runs/claims/$$part $$target.tmp; mv $$target.tmp $$target; done
	@$(PY) -m lt_lib claims --profile small --out runs/claims-small
	@for part in claims.csv claims.json; do \
		target=results/$${part%.*}-small.$${part##*.}; cp runs/claims-small/$$part $$target.tmp; mv $$target.tmp $$target; done

batch: env ## run the smoke grid of four trainings with two workers into runs/smoke
	@$(PY) -m lt_lib batch notebooks/grids/smoke.yaml --out runs/smoke --workers 2

test: lint ## lint, unit tests, doctests, and all stored notebooks against a fresh run
	@tools/test.sh

figures: env ## run every lecture at the quick profile and write figures/
	@$(PY) -m tools.notebooks figures

fig-%: env
	@$(PY) -m tools.notebooks figure $*

nb-%: env
	@$(PY) -m tools.notebooks store $*

lock: ## resolve requirements.lock again from the ranges in pyproject.toml (needs uv)
	@tools/lock.sh --upgrade

clean: ## delete caches and executed copies; .venv, data, results and other runs stay
	@rm -rf runs/figures build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
