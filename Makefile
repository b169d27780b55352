# make app    create .venv, install what the app needs, start the page
# make test   the same environment and the test requirements, then lint, types, tests
# make check  lint, types and the fast tests: those of one package each, without a browser or a server
# make space  what a Hugging Face Space needs, assembled in build/space and checked
# make baselines  networks of others: spandrel and ncnn, and Real-ESRGAN's weights in the user's cache
# make lock   pin what requirements.txt allows, with hashes, for deployment on Linux with Python 3.11
# Another interpreter: make app PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FAST := tests/comparison tests/image tests/metrics tests/models tests/report tests/settings tests/test_files.py \
	tests/test_pace.py tests/training/evaluation tests/training/losses tests/weights
PIP := $(BIN)/python -m pip install --disable-pip-version-check

.PHONY: app test lint types unit check space baselines install install-test lock clean

app: install
	$(BIN)/python app.py

test: install-test
	@$(MAKE) --no-print-directory lint types unit

check: install-test
	@$(MAKE) --no-print-directory lint types
	$(BIN)/pytest $(FAST) -m "not browser and not deadline and not gpu"

lint: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: install-test
	$(BIN)/mypy

# Two processes, a test file in one of them; then those with a browser or a server under attack, one after the other.
ALONE := tests/browser tests/security
unit: install-test
	$(BIN)/pytest -n 2 --dist loadfile $(addprefix --ignore=,$(ALONE))
	$(BIN)/pytest $(ALONE)

space: install
	rm -rf build/space
	$(BIN)/python deploy/space.py build/space

# GENDRPIX_BASELINES=FOLDER puts the weights elsewhere.
baselines: install
	$(PIP) -r requirements-peers.txt
	$(BIN)/python -m gendrpix.baselines.install

install: $(VENV)/.installed
install-test: $(VENV)/.installed-test

# A stamp stands for a finished step: a second call installs nothing unless the requirements changed.
$(VENV)/.created:
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "Python 3.11 to 3.13 is needed, this one is %d.%d; name another: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	touch $@

# pyiqa's requirements bring two builds of OpenCV with the same files; the one for desktops needs libGL.
# Where it cannot be imported, the headless build is put over it.
$(VENV)/.installed: requirements.txt $(VENV)/.created
	$(PIP) -r requirements.txt
	$(BIN)/python -c 'import cv2' || $(PIP) --force-reinstall --no-deps opencv-python-headless
	touch $@

$(VENV)/.installed-test: requirements-test.txt requirements-training.txt $(VENV)/.installed
	$(PIP) -r requirements.txt -r requirements-training.txt -r requirements-test.txt
	$(BIN)/python -c 'import cv2' || $(PIP) --force-reinstall --no-deps opencv-python-headless
	touch $@

# Deploy with: pip install --require-hashes -r requirements.lock
lock: $(VENV)/.created
	$(PIP) uv
	$(BIN)/uv pip compile requirements.txt --upgrade --generate-hashes --python-version 3.11 \
		--python-platform x86_64-manylinux_2_28 --no-header --no-emit-index-url --quiet -o requirements.lock

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
