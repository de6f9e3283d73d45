# Two commands do everything: `make demo` and `make test`. Each makes its own .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint install clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[test,train,exr,heif]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/prv2 refine docs/images/demo.jpg --coarse lite -o demo_depth.tif --preview demo_preview.png
	$(BIN)/prv2 info demo_depth.tif
	@echo "Look at demo_preview.png; demo_depth.tif is the data."

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest

clean:
	rm -rf $(VENV) demo_depth.tif demo_preview.png
