# Two commands on a fresh machine: `make demo` and `make test`. Both need Python >= 3.10 and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Vulnerabilities that do not concern us, each with its reason: --ignore-vuln ID
AUDIT_IGNORE =
TRIALS ?= 1
BENCHMARKS = training processes losses ranking reranking opening embedding search serving
DEMO_RUN = $$(ls -td logs/synthetic/resnet18/baseline/exp*/ | head -n 1)

.PHONY: help install demo test test-faults check audit bench gpu wheel clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed  ## Create .venv and install requirements.txt

$(VENV)/.installed: requirements.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "error: $(PYTHON) must be Python 3.10 or newer; try make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --requirement requirements.txt
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(PIP) --requirement requirements-dev.txt
	@touch $@

demo: $(VENV)/.installed  ## Draw synthetic people, train, test, embed, search: a few minutes on two cores
	$(PY) -m datasets.synthetic demo_data/synthetic
	$(PY) train.py --config_file configs/demo.yml
	$(PY) test.py MODEL.PRETRAIN_PATH $(DEMO_RUN)best.pth OUTPUT_DIR output_dir/demo TEST.RERANK True TEST.VISUALIZE yes
	$(PY) inference/create_embeddings.py DATASETS.ROOT_DIR demo_data/synthetic/bounding_box_test \
		MODEL.PRETRAIN_PATH $(DEMO_RUN)best.pth OUTPUT_DIR output_dir/demo_gallery
	$(PY) inference/get_similar.py --gallery_data output_dir/demo_gallery --topk 10 --visualize 12 \
		DATASETS.ROOT_DIR demo_data/synthetic/query MODEL.PRETRAIN_PATH $(DEMO_RUN)best.pth OUTPUT_DIR output_dir/demo_search
	$(PY) inference/infer.py --query_dir demo_data/synthetic/query DATASETS.ROOT_DIR demo_data/synthetic/bounding_box_test \
		MODEL.PRETRAIN_PATH $(DEMO_RUN)best.pth OUTPUT_DIR output_dir/demo_search
	@echo "The run: $(DEMO_RUN) (checkpoints, metrics.csv); curves: $(BIN)/tensorboard --logdir runs"
	@echo "Pictures: output_dir/demo/report.html (in a browser), output_dir/demo_search/ranked_lists"

test: $(VENV)/.installed-dev  ## Run all tests that need no GPU
	$(PY) -m pytest -n auto

test-faults: $(VENV)/.installed-dev  ## Kills, full disks, broken streams, signals, damaged files: TRIALS seeds of each
	$(PY) -m pytest -n auto tests/faults --trials $(TRIALS)

check: $(VENV)/.installed-dev  ## Style, types, import rules and known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory audit

audit: $(VENV)/.installed-dev  ## Published vulnerabilities of the versions in constraints.txt; skipped without a network
	@$(PY) .ci/audit.py $(BIN)/pip-audit constraints.txt $(AUDIT_IGNORE)

bench: $(VENV)/.installed-dev  ## Benchmarks, each a ratio against a named baseline
	for script in $(BENCHMARKS); do echo "== $$script"; $(PY) -m benchmarks.$$script || exit 1; done

gpu: $(VENV)/.installed-dev  ## On a machine with a GPU: its tests, then training, embedding and search on it (gpu_figures/)
	$(PY) -m pytest -m gpu
	$(PY) -m benchmarks.gpu --out gpu_figures

wheel: $(VENV)/.installed-dev  ## Build the package snu-reid: dist/*.whl (docs/package.md)
	$(PY) -m build --wheel --no-isolation

clean:  ## Remove caches, dist and the demo's data; never logs/ or output_dir/
	rm -rf demo_data dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
