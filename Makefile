# Two commands do everything: `make demo` and `make test`. Each makes its own .venv first. `make dist` builds what is
# published, the wheel and the sources, and tries both in environments of their own (tests/wheel/run.py says how);
# `make wheel` the wheel alone. `make docs` writes the static site to site/. .ci/release does all of it, and publishes.

PYTHON ?= python3
VENV := .venv
# Each imports torch and takes a gigabyte of memory.
TEST_PROCESSES ?= 2
BIN := $(VENV)/bin

.PHONY: demo pictures rendering test lint install wheel dist docs clean

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
	$(BIN)/prv2 refine docs/images/demo.jpg --coarse lite -o demo_depth.tif --compare demo_compare.jpg
	$(BIN)/prv2 refine docs/images/rendering.jpg --coarse-depth docs/images/rendering_coarse.png --coarse-scale 1000 \
	  -o demo_rendering_depth.tif --compare demo_rendering_compare.jpg
	@$(BIN)/prv2 info demo_depth.tif | sed -n 's/^unit *\([^ ]*\).*/demo_depth.tif holds depth, unit: \1/p'
	@$(BIN)/prv2 info demo_rendering_depth.tif | sed -n 's/^unit *\([^ ]*\).*/demo_rendering_depth.tif holds depth, unit: \1/p'
	@echo "Look at demo_compare.jpg and demo_rendering_compare.jpg: photograph, coarse depth, refined depth."

# The pictures of README.md anew, with the weights as they are: two are those of `make demo`, view.png needs Chromium.
# Left out, as each needs more than this repository holds: docs/images/overview.jpg (Middlebury 2014; python
# benchmarks/accuracy.py --data FOLDER --factors 8 --pictures FOLDER) and those of docs/ablation.md (hours of training).
pictures: demo docs/images/view.png
	cp demo_compare.jpg docs/images/demo_compare.jpg
	cp demo_rendering_compare.jpg docs/images/rendering_compare.jpg
	$(BIN)/python benchmarks/export.py --picture docs/images/export.png --depth demo_depth.tif \
	  --photo docs/images/demo.jpg --scale 0.4 --fov 50 --turn -12

# The drawn photograph of the demo and its coarse map, the same again; needs nothing more, takes a minute or two.
rendering: $(VENV)/.installed
	$(BIN)/python benchmarks/rendering.py --out docs/images

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
	$(BIN)/python -m pytest --cov -n $(TEST_PROCESSES) --dist loadfile

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
	rm -rf $(VENV) dist site
	rm -f demo_depth.tif demo_compare.jpg demo_rendering_depth.tif demo_rendering_compare.jpg demo_view.html
