# The only commands anyone needs. They install the packages of requirements.lock into .venv; nothing has to be activated.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.ONESHELL:
.SHELLFLAGS := -ec
MAKEFLAGS += --no-print-directory

PYTHON ?=
PORT ?= 5001
JOBS ?= 2

BIN := .venv/bin
UV := 0.13.9
EXTRAS := dask ray s3 export sweep lm-eval retrieval cluster clients peers servers dev
# A version of torch and the official Linux wheels of its CPU build (Python 3.11, 3.12, 3.13; x86_64, aarch64). The package index has
# the CUDA build alone, so `make lock` cannot learn these hashes from it.
TORCH_CPU := 2.13.0 \
	6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b 84453b69508ec79902f899c5ed9495acb9e2bbe9fda5f1d5d6f19e3c3842e1a7 \
	4ca4a9394b0c771238a4f73590fdbbc4debad85ed0fa63d026ae1b085da7d6e2 6f307c2c32d764ffc6ff6893b801fad6d4752f3e67966cb8abf1843427c02604 \
	3fbf9c9d1f3c10c2d59d04aca426dee9ccc6ceb32d255c61e93acc3b4f75fae6 0b8f7d0423027ae8b90c7977c627f3379f325363a08224dffad9b4b2d684a83d
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONUNBUFFERED := 1

.PHONY: help run test check fix chat serve invocations ui bench lock clean install install-test ruff format pyright lint-imports pytest

help: ## this list
	@echo "make COMMAND, where COMMAND is one of:"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name say; do printf '  %-15s%s\n' "$$name" "$$say"; done

run: install ## the whole pipeline: every stage that has changed, then publish, gate, promote
	@$(keep-results)
	$(BIN)/python -m flows retrain

# With bytecode, whatever the environment says: else every worker and child rewrites and compiles the tests and our modules again.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test: install-test ## all tests, the slow ones too
	@$(PYTEST)

check: install-test ## linters, types, layers, fast tests
	@$(MAKE) --keep-going --jobs 3 --output-sync=target pyright pytest lint-imports ruff format

fix: install-test ## format, and fix what ruff can fix
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

# Leaving the chat by Ctrl-C (exit code 130) is no error.
chat: install ## talk to the champion
	@$(BIN)/python -m assistant || { code=$$?; [ $$code -eq 130 ] || exit $$code; }

serve: install ## the champion behind http://127.0.0.1:PORT: a page, OpenAI's API (docs/service.md)
	@$(BIN)/python -m pipeline.registry pull
	$(BIN)/python -m service serve --port $(PORT)

invocations: install ## the champion by MLflow's protocol, at http://127.0.0.1:PORT/invocations
	@$(BIN)/python -m flows invocations --port $(PORT)

ui: install ## Prefect's and MLflow's pages; prints the addresses that open them
	@$(BIN)/python -m flows ui

bench: install-test ## every claim beside a peer
	@$(BIN)/python -m benchmarks

clean: ## remove scratch files and caches; never data, models or history
	@if [ -e var/retrain.lock ] && command -v flock >/dev/null && ! flock -n var/retrain.lock true; then \
		echo "error: a run is in progress" >&2; echo "  found: var/retrain.lock is held" >&2; echo "  to do: wait for it" >&2; exit 1; fi
	@rm -rf scratch .pytest_cache .ruff_cache .hypothesis .import_linter_cache var/*.log var/outcomes
	@find assistant benchmarks flows model pipeline tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
	@echo "kept: data and .dvc/cache (dvc gc), var (versions, history), .venv (rm -rf .venv)"

ruff:
	@$(call check-with,$(BIN)/ruff check)

format:
	@$(call check-with,$(BIN)/ruff format --check)

pyright:
	@$(call check-with,$(BIN)/pyright)

lint-imports:
	@$(call check-with,$(BIN)/lint-imports --no-logo)

pytest:
	@$(call check-with,$(PYTEST) -m "not slow")

# One line: the tool and its seconds. Its output is shown only if it fails.
check-with = start=$$(date +%s%N); said=$$($(1) 2>&1) && verdict=ok || { verdict=FAILED; printf '%s\n' "$$said"; }; \
	tenths=$$((($$(date +%s%N) - start) / 100000000)); printf '%-12s %6s s  %s\n' $@ $$((tenths / 10)).$$((tenths % 10)) $$verdict; \
	[ $$verdict = ok ]

lock: | $(BIN)/uv ## resolve pyproject.toml into the two lock files; UPGRADE="--upgrade-package NAME" for a newer version
	@$(pip-settings)
	unset UV_FIND_LINKS UV_TORCH_BACKEND
	compile() { $(BIN)/uv pip compile --quiet --python-version 3.11 $(UPGRADE) pyproject.toml --extra corpus "$$@"; }
	sed -i $(foreach hash,$(wordlist 2,99,$(TORCH_CPU)),-e /:$(hash)/d) requirements.lock
	compile --output-file requirements.lock
	sed -i $(foreach hash,$(wordlist 2,99,$(TORCH_CPU)),-e '/^torch==$(firstword $(TORCH_CPU)) /a\    --hash=sha256:$(hash) \\') requirements.lock
	compile $(EXTRAS:%=--extra %) --constraint requirements.lock --output-file requirements-test.lock \
		$$(sed -n 's/^\([a-z0-9.-]*\)==.*/--no-emit-package \1/p' requirements.lock)

install $(BIN)/uv:
	@$(call sync,requirements.lock)

install-test:
	@$(call sync,requirements.lock requirements-test.lock)

# The results of a run are this machine's and no change to commit, unless a team decides otherwise (.gitattributes): whatever dvc.lock and
# data/metrics contain, Git takes its own version for their content, and `git add` records that nothing has changed. An interrupted stage
# has no metrics yet: DVC has deleted the file, so Git's version takes its place.
define keep-results
filter=$$(git check-attr filter -- dvc.lock 2>/dev/null || true)
if [ "$${filter##* }" = results ]; then
	git config filter.results.clean 'git cat-file blob :%f 2>/dev/null || cat'
	trap 'exit 130' INT
	trap 'git ls-files -z --deleted -- data/metrics | xargs -0 -r git checkout -q -- ; git add --update -- dvc.lock data/metrics 2>/dev/null || true' EXIT
fi
endef

# uv does not read pip's configuration (files and variables): pass on where packages and certificates are.
define pip-settings
settings=$$($(BIN)/python -m pip config list)
setting() { printf '%s\n' "$$settings" | sed -n "s/^[^=]*\.$$1='\(.*\)'$$/\1/p" | head -n 1; }
export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$(setting index-url)}" UV_EXTRA_INDEX_URL="$${UV_EXTRA_INDEX_URL:-$$(setting extra-index-url)}"
export UV_FIND_LINKS="$${UV_FIND_LINKS:-$$(setting find-links | tr ' ' ,)}" UV_INDEX_STRATEGY=unsafe-best-match UV_HTTP_TIMEOUT=180
cert=$$(setting cert); [ -z "$$cert" ] || export SSL_CERT_FILE="$${SSL_CERT_FILE:-$$cert}"
endef

# $(call sync,LOCKS): the contents of the locks decide, compared with the copies that the last complete installation left in .venv.
# An interrupted one left none, so .venv is made again, from uv's cache. The scripts of a .venv that was copied or moved name the old place:
# they are mended, or, where a script can't name the new one (blanks), .venv is made again.
define sync
has_venv=; locks="$(1)"; [ ! -e .venv/requirements-test.lock ] || locks="requirements.lock requirements-test.lock"
current() { for lock in $$locks; do cmp -s $$lock .venv/$$lock || return 1; done; }
is_new_enough() { "$$@" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
if [ -e .venv/requirements.lock ] && is_new_enough $(BIN)/python; then
	place=$$(sed -n 's/^command = .* -m venv \(--[^ ]* \)*//p' .venv/pyvenv.cfg)
	here=$$(pwd -P)/.venv
	if [ "$$place" -ef .venv ]; then has_venv=1
	elif [ -z "$$place" ] || printf '%s' "$$here$$place" | grep -q '[^[:alnum:]/._+@=,:~-]'; then echo "making .venv again: it was made in $$place"
	else
		echo "mending .venv: it was made in $$place"
		grep -rlIF "$$place" .venv/bin .venv/pyvenv.cfg | xargs sed -i "s|$$(printf '%s' "$$place" | sed 's/[.]/\\./g')|$$here|g"
		has_venv=1
	fi
fi
if [ -n "$$has_venv" ] && current; then exit 0; fi
if [ -z "$$has_venv" ]; then
	PATH="$${PATH#*:}"
	for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14 python) ''; do ! is_new_enough "$$python" || break; done
	if [ -z "$$python" ]; then
		echo "error: Python 3.11 or newer is needed" >&2
		echo "  found: $$($(or $(PYTHON),python3) --version 2>&1 | head -n 1)" >&2
		echo "  to do: install it, or name its path: make PYTHON=/path/to/python3.12" >&2; exit 1
	fi
	echo "making .venv with $$($$python --version)"
	$$python -m venv --clear .venv || {
		echo "error: the virtual environment could not be made" >&2
		echo "  found: the message above" >&2
		echo "  to do: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }
fi
rm -f .venv/requirements*.lock
echo "installing $$(cat $$locks | grep -c ==) packages into .venv: about a minute the first time"
{
	[ "$$($(BIN)/uv --version 2>/dev/null | cut -d ' ' -f 2)" = $(UV) ] || $(BIN)/python -m pip install -qq --disable-pip-version-check uv==$(UV)
	$(pip-settings)
	[ -z "$$PYTHONDONTWRITEBYTECODE" ] || export UV_COMPILE_BYTECODE=1 UV_COMPILE_BYTECODE_TIMEOUT=600 # else each process would compile what it imports
	$(BIN)/uv pip install --python $(BIN)/python --exact $$(printf -- "-r %s " $$locks) && cp $$locks .venv/
} 2>&1 | grep -v '^ [+~-] ' || true
current || {
	echo "error: the packages could not be installed" >&2
	echo "  found: the message above; $$(df -Ph . | awk 'NR == 2 { print $$4 }') of disk space are free" >&2
	echo "  to do: check the network and the disk, then run make again; what was downloaded is kept" >&2; exit 1; }
echo installed
endef
