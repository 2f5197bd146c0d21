# make report   environment, data, notebooks from the committed records, HTML and PDF
# make test     environment, data, unit tests, every notebook compared (strict) and trained (smoke)
# make bench    speed and memory, against what others write and the machine's limits (idle machine, half an hour)
# make torture  kill -9 at random moments, 50 times: each run must end with the same weights
# make lock     requirements.lock, after a change of requirements.txt

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# Notebooks run in a folder of their own, where a relative path would lead elsewhere. Make's abspath splits at blanks.
absolute = $(if $(filter /% ~%,$(firstword $(value $1))),,$(CURDIR)/)$(value $1)
ifneq ($(value DATA_DIR),)
override export DATA_DIR := $(call absolute,DATA_DIR)
endif
ifneq ($(value RESULTS_DIR),)
override export RESULTS_DIR := $(call absolute,RESULTS_DIR)
endif

.PHONY: env lock data report notebooks test lint bench torture lab clean

report: data
	$(BIN)/python -m helpers report

# One thread a process, since two run side by side: more threads than cores wait for each other, and spin while they do.
test: export OMP_NUM_THREADS = 1
test: data lint
	$(BIN)/python -m pytest tests -n 2 --dist worksteal
	RECORDS_ONLY=1 $(BIN)/python -m pytest --nbval notebooks $(NBVAL)
	folder=$$(mktemp -d) && export RESULTS_DIR="$$folder" && \
		RECORDS_ONLY=1 $(BIN)/python -m pytest --nbval-lax notebooks $(NBVAL) && \
		REPORT_BUDGET=smoke $(BIN)/python -m pytest --nbval-lax notebooks $(NBVAL); \
		status=$$?; rm -rf "$$folder"; exit $$status

NBVAL := --nbval-sanitize-with tests/nbval.cfg --nbval-cell-timeout 900 -n 2 --dist loadfile -p no:cacheprovider

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Executes the notebooks in place, from the records; what is then committed is what nbval compares.
notebooks: data
	RECORDS_ONLY=1 $(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False notebooks/*.ipynb

bench: data
	$(BIN)/python -m helpers bench

torture: data
	$(BIN)/python tests/torture.py

lab: data
	$(BIN)/jupyter lab notebooks

data: env
	$(BIN)/python -m helpers data

env: $(READY)

# Python compiles what is imported, once: to compile all that is installed takes as long as to install it.
$(READY): requirements.lock pyproject.toml
	"$(PYTHON)" -m venv .venv
	$(BIN)/pip install --quiet --no-compile --require-hashes --no-deps --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# All packages that the pins bring along, with their hashes. What is locked stays: without the file, all is the newest.
lock:
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
	uv pip compile --universal --python-version 3.11 --generate-hashes --quiet \
		--output-file requirements.lock requirements.txt

clean:
	rm -rf report _build
