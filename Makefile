# `make run` and `make test` do all of their set-up, in .venv: the machine's own Python is left alone.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready

.PHONY: run test lint docs calibration detection fuzz sweep octave chromium clean

run: $(READY)  ## the main job: every fixture on every adapter, and an HTML report at the end
	$(BIN)/conformance run --html report.html
	@echo "The report is report.html"

test: $(READY) octave chromium  ## all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(READY)  ## linters and type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)  ## the documentation as a site; a broken link or a page left out is an error
	$(BIN)/mkdocs build --quiet --strict --config-file docs/site/mkdocs.yml
	@echo "The first page is build/site/index.html"

calibration: $(READY)  ## the distribution of ratios, per framework and dtype
	$(BIN)/python benchmarks/calibration.py

detection: $(READY)  ## planted faults in every framework: how many are detected, placed and named
	$(BIN)/python benchmarks/detection.py

fuzz: $(READY)  ## damaged and hostile files in every reader, a minute each
	$(BIN)/python benchmarks/fuzz.py

sweep: $(READY)  ## drawn configurations of every layer on every framework
	$(BIN)/python benchmarks/sweep.py

# The MATLAB fixtures are recorded by GNU Octave, and a test records them again.
octave:
	@command -v octave >/dev/null || { apt-get update -q && apt-get install -y -q --no-install-recommends octave; } \
	|| { echo "GNU Octave is needed for the tests and could not be installed: install the package octave"; exit 1; }

# The HTML report is tested in a browser: Debian's, so that the tests download none.
chromium:
	@command -v chromium >/dev/null || { apt-get update -q && apt-get install -y -q --no-install-recommends chromium; } \
	|| { echo "Chromium is needed for the tests and could not be installed: install the package chromium"; exit 1; }

# torch comes first and in this version, so that nothing else pulls in another build of it.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all,test]'
	touch $@

clean:
	rm -rf .venv build dist report.html
