# Everything is installed in .venv; `rm -r .venv` undoes it. PYTHON chooses the interpreter: make PYTHON=python3.12 demo
#
#   make demo        draw demo.png with the model that ships with the package
#   make up          test this machine, start the server, open its page
#   make serve       start the server; SERVE="--host 0.0.0.0 ..." are its options
#   make test        lint, type check, fast tests, and the reference data where it lies beside the repository
#   make test-full   the slow tests as well
#   make evaluate    build the emoji set in data/emoji, measure the model that ships, write report.html
#   make bench       print the tables of figures
#   make docs        the docs as a site, in site/
#   make notebooks   the chapters of docs/learn as notebooks, in notebooks/
#   make learn-refresh  run the chapters, and put what they print and draw into their pages
#   make examples    train the adapters that ship for the model that ships anew, in a quarter of an hour
#   make page        build the page of `sfumato serve` of web/; needs node, which nothing else does
#   make docs-pictures  draw the pictures of README, docs and the self-test anew, after a change of the model

PYTHON ?= python3
PROMPT ?= a smiling face, 3D style
# A worker for every processor; each of them computes with one thread. PARALLEL= runs one test after the other.
PARALLEL ?= --numprocesses logical --maxprocesses 8 --dist worksteal
GOLDEN ?= ../shared/golden
# All of the reference data but T5's tokens, whose vocabulary is not ours to ship.
VERIFY ?= --except 'text/t5*'

BIN := .venv/bin
.PHONY: demo up serve test test-full lint verify evaluate bench docs notebooks learn-refresh examples docs-pictures page

demo: .venv/installed
	$(BIN)/sfumato txt2img "$(PROMPT)" --seed 6 --out demo.png

up: .venv/installed
	$(BIN)/sfumato up

serve: .venv/installed
	$(BIN)/sfumato serve $(SERVE)

test: lint
	$(BIN)/pytest -q $(PARALLEL)
	@$(MAKE) --no-print-directory verify

test-full: lint .venv/installed-cluster
	$(BIN)/pytest -q $(PARALLEL) -m "slow or not slow"
	@$(MAKE) --no-print-directory verify

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

verify: .venv/installed
	if [ -d $(GOLDEN) ]; then $(BIN)/sfumato verify $(GOLDEN) $(VERIFY); fi

evaluate: .venv/installed
	$(BIN)/sfumato data build emoji data/emoji
	$(BIN)/sfumato evaluate --data data/emoji --report report.html

bench: .venv/installed-test
	set -e; for script in $(filter-out bench/common.py bench/architecture.py bench/codec.py,$(wildcard bench/*.py)); do $(BIN)/python $$script; done

docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

notebooks: .venv/installed
	$(BIN)/python tools/notebooks.py write notebooks

learn-refresh: .venv/installed
	$(BIN)/python tools/notebooks.py refresh

examples: .venv/installed-test
	$(BIN)/sfumato data build emoji data/emoji --size 256
	$(BIN)/python tools/examples.py --data data/emoji

page:
	cd web && npm install --no-audit --no-fund && npm run build

docs-pictures: .venv/installed
	$(BIN)/python tools/docs_pictures.py
	$(BIN)/python tools/selftest.py

.venv/installed: pyproject.toml constraints.txt tools/venv
	tools/venv $(PYTHON) .venv
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/pip install --quiet --constraint .venv/constraints.txt --editable '.[test]'
	touch $@

.venv/installed-cluster: .venv/installed-test
	$(BIN)/pip install --quiet --constraint .venv/constraints.txt --editable '.[cluster]'
	touch $@

.venv/installed-docs: .venv/installed
	$(BIN)/pip install --quiet --constraint .venv/constraints.txt --editable '.[docs]'
	touch $@
