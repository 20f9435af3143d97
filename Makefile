PYTHON ?= python3
VENV := .venv
OUT ?= demo-output

# Installs this package with an extra. pip would compile on one core; no test of a package is compiled, and some
# packages hold files that only newer Pythons can compile.
define install
$(VENV)/bin/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.$(1)'
$(VENV)/bin/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true
endef

.PHONY: demo test tests lint docs clean

demo: $(VENV)/core  ## a virtual head on three scanners, harmonized and compared with the truth: three minutes
	$(VENV)/bin/mrharmony demo $(OUT)

test: $(VENV)/installed  ## lint, type-check and test, side by side
	$(MAKE) -j2 lint tests

tests: $(VENV)/installed
	OMP_NUM_THREADS=1 ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/installed
	$(VENV)/bin/ruff check src tests benchmarks docs
	$(VENV)/bin/ruff format --check src tests benchmarks docs
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache

docs: $(VENV)/documents  ## build the documentation site, without a network: build/site/docs/index.html
	$(VENV)/bin/python -m sphinx -q -E -T -W --keep-going -c docs -b html -d build/doctrees . build/site

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mrharmony needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/core: pyproject.toml constraints.txt | $(VENV)/bin/python  # what harmonizing needs
	$(call install,)
	touch $@

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python  # and all extras, and the tools
	$(call install,[dev])
	touch $@ $(VENV)/core $(VENV)/documents

$(VENV)/documents: pyproject.toml constraints.txt | $(VENV)/bin/python  # what the site needs
	$(call install,[docs])
	touch $@ $(VENV)/core

clean:
	rm -rf $(VENV) build dist src/*.egg-info
