# make help lists the targets. Every target does the set-up that it needs.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# What `make serve` uses; override on the command line. Empty ports mean the standard ones where allowed.
SHARE ?= share
PORT ?=
RDMA_PORT ?=
SMB_USER ?= user
SMB_PASSWORD ?=
ONCE ?=
TESTS ?= tests
ROUNDS ?= 5
SECONDS_PER_TARGET ?= 60
SUITES ?=
RECORD ?=
SMBD ?=

# To build and to run; to test and to measure.
RUN_PACKAGES := gcc make pkg-config python3-venv python3-dev libssl-dev libibverbs-dev librdmacm-dev rdma-core \
	ibverbs-utils python3-pyverbs
LAB_PACKAGES := qemu-system-x86 busybox-static linux-image-amd64 linux-headers-amd64 linux-source-6.1 bc bison flex kmod \
	iproute2 cifs-utils fio git sqlite3 perftest
TEST_PACKAGES := smbclient samba samba-vfs-modules tshark iperf3 clang clang-format libclang-rt-14-dev \
	man-db krb5-kdc krb5-admin-server krb5-user libkrb5-dev python3-gssapi

# Debian's own interpreter sees Debian's python3-pyverbs; another one works without it.
PYTHON := $(firstword $(foreach candidate,/usr/bin/python3 python3 python3.13 python3.12 python3.11,\
	$(shell $(candidate) -c 'import sys; sys.version_info >= (3, 11) and print("$(candidate)")' 2>/dev/null)))
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check --no-input -q
# The password goes by the environment: a command line can be read by everybody.
export SMB_PASSWORD

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16
	@echo "  variables of serve: SHARE PORT RDMA_PORT SMB_USER SMB_PASSWORD ONCE=1; of test: TESTS=path"

.PHONY: serve
serve: build ## serve the folder share/ on TCP and SMB Direct, after a check against itself
	@exec $(RUN) -m smbserver serve --share "$(SHARE)" --user "$(SMB_USER)" \
		$(if $(PORT),--port $(PORT)) $(if $(RDMA_PORT),--rdma-port $(RDMA_PORT)) $(if $(ONCE),--once)

.PHONY: test
test: setup ## build and run all tests
	@$(RUN) -m pytest $(TESTS)

.PHONY: check
check: setup ## layers, names, lengths, formatting, lint, types
	@PATH=$(CURDIR)/$(VENV)/bin:$$PATH checks/run

.PHONY: bench
bench: setup ## measure against a raw stream and Samba's smbd
	@$(RUN) -m smbserver bench --rounds $(ROUNDS)

.PHONY: conformance
conformance: setup ## Samba's smbtorture against our server and its record; SUITES= RECORD=1 SMBD=1
	@contrib/install-packages samba-testsuite iptables iproute2
	@SUITES="$(SUITES)" RECORD="$(RECORD)" SMBD="$(SMBD)" $(RUN) -m tests.conformance

.PHONY: fuzz
fuzz: setup ## every fuzz target and property test for about SECONDS_PER_TARGET=60 each
	@FUZZ_SECONDS=$(SECONDS_PER_TARGET) $(RUN) -m pytest tests/fuzz --timeout 86400
	@FUZZ_SECONDS=$(SECONDS_PER_TARGET) $(RUN) -m pytest -m hypothesis --timeout 86400

.PHONY: lab
lab: labsetup ## in a VM: Soft-RoCE, siw, and the Linux kernel as client; half an hour
	@tests/lab/run all

.PHONY: lab-quick
lab-quick: labsetup ## the same without what takes longest; a quarter of an hour
	@tests/lab/run quick

.PHONY: lab-full
lab-full: labsetup ## the same and all that takes longer
	@tests/lab/run full

.PHONY: lab-bench
lab-bench: labsetup ## in a VM: SMB by RDMA beside perftest on the same device
	@LAB_ROUNDS=$(ROUNDS) tests/lab/run bench

.PHONY: labsetup
labsetup: setup $(VENV)/bin/vng
	@contrib/install-packages $(LAB_PACKAGES)

$(VENV)/bin/vng: | $(VENV)/bin/python
	@$(PIP) install virtme-ng

.PHONY: manual
manual: build ## the manual pages, in build/man; read them with man -l FILE
	@$(RUN) docs/manual.py build/man

.PHONY: setup
setup: build $(VENV)/.test-requirements ## system packages, .venv and build; quick when nothing changed
	@contrib/install-packages $(TEST_PACKAGES)
	@$(RUN) -c 'import gssapi, krb5' 2>/dev/null || $(PIP) install 'pyspnego[kerberos]' || \
		echo "setup: the libraries for Kerberos cannot be installed; its tests are skipped"

.PHONY: build
build: packages $(VENV)/.extensions

.PHONY: packages
packages:
	@contrib/install-packages $(RUN_PACKAGES)

$(VENV)/bin/python: | packages
	@[ -n "$(PYTHON)" ] || { echo "setup: Python 3.11 or newer is needed, none was found"; exit 1; }
	@[ "$(PYTHON)" = /usr/bin/python3 ] || \
		echo "setup: /usr/bin/python3 is too old or absent, using $(PYTHON): pyverbs will be missing"
	@echo "setup: virtual environment in $(VENV)"
	@$(PYTHON) -m venv --system-site-packages $(VENV)

$(VENV)/.requirements: pyproject.toml setup.py | $(VENV)/bin/python
	@echo "setup: Python packages"
	@$(PIP) install 'setuptools>=64' wheel 'cffi>=1.15'
	@$(PIP) install --no-build-isolation --editable .
	@touch $@

$(VENV)/.test-requirements: pyproject.toml $(VENV)/.requirements
	@$(PIP) install --no-build-isolation --editable '.[test]'
	@touch $@

EXTENSION_SOURCES := $(wildcard csrc/*) $(wildcard smbserver/bench/*raw*) setup.py
$(VENV)/.extensions: $(EXTENSION_SOURCES) $(VENV)/.requirements
	@echo "setup: C extensions"
	@$(RUN) -W ignore setup.py -q build_ext --inplace
	@touch $@

.PHONY: clean
clean: ## remove what was built, the virtual environment too
	@rm -rf $(VENV) build *.egg-info rdmaproxy/_engine*.so smbserver/_smb2*.so smbserver/bench/_raw*.so
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
