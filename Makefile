# Two commands do everything: `make demo` and `make test`. Each makes its own .venv first. `make dist` builds what is
# published, the wheel and the sources, and tries both in environments of their own (tests/wheel/run.py says how);
# `make wheel` the wheel alone. `make docs` writes the static site to site/. .ci/release does all of it, and publishes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint install wheel dist docs clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[test,train,exr,heif,mesh]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/prv2 refine docs/images/demo.jpg --coarse lite -o demo_depth.tif --preview demo_preview.png
	$(BIN)/prv2 info demo_depth.tif
	@echo "Look at demo_preview.png; demo_depth.tif is the data."

# The picture of `prv2 view` in README.md, by Chromium; as root: make docs/images/view.png CHROMIUM="chromium --no-sandbox"
CHROMIUM ?= chromium
docs/images/view.png: demo
	$(BIN)/prv2 view docs/images/demo.jpg demo_depth.tif -o demo_view.html
	$(CHROMIUM) --headless --hide-scrollbars --window-size=1200,690 --virtual-time-budget=9000 --screenshot=$(CURDIR)/$@ \
	  'file://$(CURDIR)/demo_view.html#theme=dark&split=.42&line=.06,.72,.95,.6&at=.62,.62'
	$(BIN)/python -c "from PIL import Image; Image.open('$@').convert('RGB').quantize(256).save('$@', optimize=True)"

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest --cov

wheel: $(VENV)/.installed-test
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	$(BIN)/python tests/wheel/run.py dist/prv2cli-*.whl

dist: $(VENV)/.installed-test $(VENV)/.installed-release
	rm -rf dist
	$(BIN)/python -m hatchling build -t sdist -t wheel
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python tests/wheel/run.py dist/prv2cli-*.whl
	$(BIN)/python tests/wheel/run.py dist/prv2cli-*.tar.gz

$(VENV)/.installed-release: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[release]'
	@touch $@

docs: $(VENV)/.installed-docs
	$(BIN)/python -m mkdocs build --strict

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) dist site demo_depth.tif demo_preview.png demo_view.html
