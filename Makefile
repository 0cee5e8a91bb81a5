# The only commands anyone needs. They install what requirements.lock says into .venv; nothing has to be activated.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?=
PORT ?= 5001
JOBS ?= 2

BIN := .venv/bin
INSTALLED := .venv/requirements.lock
INSTALLED_TEST := .venv/requirements-test.lock
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONUNBUFFERED := 1

.PHONY: help run test check fix chat serve ui bench clean install install-test ruff format types layers tests

help: ## this list
	@echo "make COMMAND, where COMMAND is one of:"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name say; do printf '  %-8s%s\n' "$$name" "$$say"; done

run: install ## the whole road: every stage that has changed, then publish, gate, promote
	@$(BIN)/python -m flows retrain

test: install-test ## all tests, the slow ones too
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

check: install-test ## linters, types, layers, fast tests
	@echo "checking: ruff, format, types, layers, fast tests (each speaks when it is done)"
	@$(MAKE) --keep-going --jobs 3 --output-sync=target ruff format types layers tests

fix: install-test ## mend what ruff can mend
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

chat: install ## talk to the champion
	@$(BIN)/python -m assistant

serve: install ## the champion behind http://127.0.0.1:PORT/invocations
	@$(BIN)/python -m pipeline.registry pull
	@echo "POST http://127.0.0.1:$(PORT)/invocations  {\"input\": [{\"role\": \"user\", \"content\": \"What is 12 * 7?\"}]}"
	@MLFLOW_TRACKING_URI="$${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/var/mlflow.db}" MLFLOW_DISABLE_TELEMETRY=true MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR=false \
		$(BIN)/mlflow models serve -m models:/minigpt@champion --env-manager local --host 127.0.0.1 --port $(PORT) --workers 1

ui: install ## Prefect's and MLflow's pages; prints their addresses
	@$(BIN)/python -m flows ui

bench: install-test ## every claim beside a peer
	@$(BIN)/python -m benchmarks

clean: ## remove scratch files and caches; never data, models or history
	@if [ -e var/retrain.lock ] && command -v flock >/dev/null && ! flock -n var/retrain.lock true; then \
		echo "error: a run is at work" >&2; echo "  found: var/retrain.lock is held" >&2; echo "  to do: wait for it" >&2; exit 1; fi
	@rm -rf scratch .pytest_cache .ruff_cache .hypothesis .import_linter_cache var/*.log var/outcomes
	@find assistant benchmarks flows model pipeline tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
	@echo "kept: data and .dvc/cache (dvc gc), var (versions, history), .venv (rm -rf .venv)"

ruff:
	@$(BIN)/ruff check

format:
	@$(BIN)/ruff format --check

types:
	@$(BIN)/pyright

layers:
	@$(BIN)/lint-imports --no-logo

tests:
	@$(BIN)/python -m pytest -m "not slow" -n $(JOBS) --dist worksteal

install: $(INSTALLED)
install-test: $(INSTALLED_TEST)

$(INSTALLED_TEST): | $(INSTALLED)

# Content decides, not the time of a checkout. What is interrupted here is taken up by the next call.
.venv/%.lock: %.lock
	@if cmp -s $< $@ && $(BIN)/python -c '' 2>/dev/null; then touch $@; exit 0; fi; \
	found=; \
	for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14 python); do \
		if PATH="$${PATH#*:}" $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "error: Python 3.11 or newer is needed" >&2; \
		echo "  found: $$(PATH="$${PATH#*:}" $(or $(PYTHON),python3) --version 2>&1 | tail -n 1)" >&2; \
		echo "  to do: install one, or say where it is: make PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi; \
	if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "making .venv with $$(PATH="$${PATH#*:}" $$found --version)"; \
		PATH="$${PATH#*:}" $$found -m venv --clear .venv || { \
			echo "  to do: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }; \
	fi; \
	total=$$(grep -c '==' $<); \
	echo "installing $$total packages into .venv: some minutes the first time (.venv/install.log has the details)"; \
	{ $(BIN)/python -m pip install --no-input --progress-bar off -r $< 2>&1; echo "pip ended with $$?"; } | { \
		code=1; n=0; \
		while IFS= read -r line; do \
			printf '%s\n' "$$line" >&3; \
			case "$$line" in \
				Collecting\ *) n=$$((n + 1)); [ $$((n % 40)) -ne 0 ] || echo "  $$n of $$total found";; \
				*Downloading\ *[0-9][0-9].[0-9]\ MB\)*) echo "  $${line#"$${line%%[! ]*}"}";; \
				Installing\ collected*) echo "  unpacking: a minute or two";; \
				ERROR*|error*) echo "  $$line" >&2;; \
				pip\ ended\ with\ *) code=$${line##* };; \
			esac; \
		done; exit $$code; } 3>.venv/install.log || { \
		echo "error: the installation failed" >&2; \
		echo "  to do: see .venv/install.log, then run make again; it goes on from there" >&2; exit 1; }; \
	cp $< $@; echo "installed"
