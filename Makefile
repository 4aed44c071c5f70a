# sys-pxe: `make help` lists the targets. On a fresh Debian 12 or 13, as root,
# each target first installs what it needs (packages.txt, requirements-dev.txt).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# Debian's own: the programs in packages.txt and this Python belong together
PYTHON ?= /usr/bin/python3
PY := .venv/bin/python
READY := .venv/.ready
REQUIREMENTS := $(wildcard requirements-*.txt)

FAST := tests/unit tests/policy tests/salt
SCRIPTS := .ci/run $(wildcard tools/*) $(wildcard qubes-rpc/syspxe.*) \
	sys_pxe/dom0/sys-pxe sys_pxe/dom0/completion.bash \
	$(shell grep -rlE '^\#!/bin/(ba)?sh' salt)

# a folder without tests yet is no failure
with_tests = $(sort $(patsubst %/,%,$(dir $(wildcard $(addsuffix /test_*.py,$(1))))))
pytest = $(if $(call with_tests,$(1)),$(PY) -m pytest $(2) $(call with_tests,$(1)),@echo "no tests in: $(1)")

.PHONY: help
help: ## say what each target does
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 26

.PHONY: demo
demo: packages $(READY) ## show it all: build a release, boot PCs without disks
	$(PY) -m sys_pxe.lab.demo

.PHONY: test
test: test-fast test-integration test-boot ## run every test (root)

.PHONY: test-fast
test-fast: packages $(READY) ## run the tests that need neither root nor QEMU
	$(call pytest,$(FAST),--numprocesses auto)

.PHONY: test-integration
test-integration: packages $(READY) ## run the tests with real programs and namespaces (root)
	$(call pytest,tests/integration)

# QEMU's emulation loses a register's bits once in about a hundred boots, and
# dom0's kernel crashes: that, and no other failure, is tried once more
CRASHED := Hardware Dom0 crashed

.PHONY: test-boot
test-boot: packages $(READY) ## boot whole clients in QEMU (root)
	$(call pytest,tests/boot,--reruns 1 --only-rerun '$(CRASHED)')

.PHONY: lint
lint: packages $(READY) ## check style, types and shell scripts
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	shellcheck $(SCRIPTS)
	mandoc -T lint -W warning docs/man/*.[17]
	if [ -d dracut ]; then find dracut -name '*.sh' -exec shellcheck -s bash {} +; fi

.PHONY: bench
bench: packages $(READY) ## measure; ONLY=NAME for one of the measurements
	$(PY) -m tests.bench $(ONLY)

.PHONY: install
install: ## install what dom0 gets, below DESTDIR (no root, nothing built)
	tools/install "$(DESTDIR)"

.PHONY: rpm
rpm: packages $(READY) ## build the package for dom0 into build/rpm
	rm -rf build/rpm
	PYTHON=$(PY) tools/rpm build/rpm
	rpmlint --config rpm_spec/rpmlint.toml build/rpm

.PHONY: clean
clean: ## remove what was built, the golden images too
	rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: packages
packages:
	@tools/packages packages.txt

$(READY): $(REQUIREMENTS) | packages
	$(PYTHON) -m venv --clear .venv
	$(PY) -m pip install --quiet --disable-pip-version-check \
		$(addprefix -r ,$(REQUIREMENTS))
	touch $@
