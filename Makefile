# One task list for laptops and CI. Every target sets up what it needs first, and quickly when nothing changed.
.DEFAULT_GOAL := help
.PHONY: help setup setup-ros setup-tf demo test test-fast lint images images-arm64-check bench bench-mcu compare-quick proto format lock clean

PYTHON_BIN := .venv/bin/python
ROS_PYTHON := .venv-ros/bin/python
COMPILE := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes \
	--no-header --no-emit-index-url --no-emit-find-links
# Unit tests share nothing; the others start processes that keep several cores busy by themselves.
ON_ALL_CORES := --numprocesses=auto --dist=worksteal
LEARNER := $(wildcard mcu_bridge/firmware/learner/*.[ch] mcu_bridge/firmware/learner/include/*.h)

# Omniglot, where it lies beside the checkout; elsewhere TINYFLEET_DATA names it, or sine waves take its place.
ifneq ($(wildcard ../shared/data/omniglot.npz),)
export TINYFLEET_DATA ?= $(abspath ../shared/data/omniglot.npz)
endif

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1	/' | expand -t 12

setup: .venv/ready ## make .venv, install the locked dependencies and the project, build the C learner

.venv/ready: requirements/dev.lock pyproject.toml setup.py $(LEARNER)
	@dev/setup

setup-ros: .venv-ros/ready ## make .venv-ros with ROS 2's rclpy, where it has wheels: x86-64, Python 3.11 or 3.12

.venv-ros/ready: requirements/ros.lock requirements/colcon.lock pyproject.toml setup.py $(LEARNER)
	@dev/setup ros

setup-tf: .venv-tf/ready ## make .venv-tf with TensorFlow, to make .tflite files that train themselves; 1.6 GB

.venv-tf/ready: requirements/tensorflow.lock
	@dev/setup tf

node_modules/ready: package-lock.json
	@dev/setup lint

demo: setup ## eight agents, then four and two emulated boards, in under three minutes
	@dev/demo

test: setup setup-ros ## the whole test suite; that of the ROS nodes where rclpy has wheels
	$(PYTHON_BIN) -m pytest tests/unit $(ON_ALL_CORES)
	$(PYTHON_BIN) -m pytest tests/integration tests/system
	@if [ -e .venv-ros/ready ]; then echo "$(ROS_PYTHON) -m pytest tests/ros"; $(ROS_PYTHON) -m pytest tests/ros; fi

test-fast: setup ## the unit tests only, in under a minute
	$(PYTHON_BIN) -m pytest tests/unit -m "not slow" --hypothesis-profile=fast $(ON_ALL_CORES)

lint: setup node_modules/ready ## ruff, mypy, import rules, buf and a look over the tracked files
	@dev/lint

images: setup ## container images of all roles; BASE=bootstrap where there is no registry
	@deploy/build

images-arm64-check: setup ## nightly: the agent's image for arm64 under emulation, as root; minutes
	@dev/check_arm64

bench: setup ## every number in the README; installs PyTorch to compare with
	$(PYTHON_BIN) -m pip install -qq --disable-pip-version-check -r requirements/bench.in
	@dev/bench

bench-mcu: setup ## what training costs a Cortex-M4F, and TinyReptile against Reptile there; about six minutes
	$(PYTHON_BIN) benchmarks/bench_mcu.py

compare-quick: setup ## a small version of the main table of docs/results.md, in under five minutes on two cores
ifneq ($(TINYFLEET_DATA),)
	.venv/bin/tinyfleet compare experiments/omniglot_quick.toml --out out/omniglot_quick
else
	.venv/bin/tinyfleet compare experiments/sine_quick.toml --out out/sine_quick
endif

proto: setup ## write tinyfleet/v1 anew from proto/
	$(PYTHON_BIN) dev/generate_proto.py

format: setup ## format the code and take ruff's safe fixes
	.venv/bin/ruff check --quiet --fix-only .
	.venv/bin/ruff format .

lock: setup ## resolve the dependencies anew: versions and hashes, no addresses
	$(COMPILE) --extra dev --output-file requirements/dev.lock pyproject.toml
	$(COMPILE) --extra ros --extra services --extra mcu --extra test --constraint requirements/dev.lock \
		--output-file requirements/ros.lock pyproject.toml
	$(COMPILE) --output-file requirements/colcon.lock requirements/colcon.in
	$(COMPILE) --output-file requirements/tensorflow.lock requirements/tensorflow.in
	$(COMPILE) --extra mcu --extra tls --constraint requirements/dev.lock --output-file requirements/agent.lock pyproject.toml
	$(COMPILE) --extra mcu --extra tls --extra litert --constraint requirements/dev.lock \
		--output-file requirements/agent-litert.lock pyproject.toml
	$(COMPILE) --extra services --constraint requirements/dev.lock --output-file requirements/services.lock pyproject.toml
	$(COMPILE) --constraint requirements/dev.lock --output-file requirements/build.lock requirements/build.in

clean: ## remove everything that `make setup` and the builds made
	rm -rf .venv .venv-ros .venv-colcon .venv-tf node_modules build dist *.egg-info tinyfleet/learner/_native.so
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
