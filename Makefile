# make up · make check · make test · make oldest · make pictures · make image · make demo · make plan · make bench.   A Python other than python3: make PYTHON=… up

PORT ?= 3000
CASES ?= some
RUN := .venv/bin

OLDEST := .venv-dbt-1.11
UV = $(or $(shell command -v uv),.uv/bin/uv)

# Every command starts many processes, and each would compile this package again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install up demo doctor plan check test tests oldest lint pictures image bench clean

install:
	@PYTHON="$(PYTHON)" ./install.sh

up: install
	@exec $(RUN)/dbt-orchestration up --port $(PORT)

demo: install
	@exec $(RUN)/dbt-orchestration demo

doctor: install
	@$(RUN)/dbt-orchestration doctor

plan: install
	@$(RUN)/dbt-orchestration plan

# In a minute or so, of what `make test` does.
check: lint
	@$(RUN)/pytest -m quick --quiet --numprocesses 2

# Lint takes one core for a minute, in which the first tests mostly wait.
test: install
	@$(MAKE) --no-print-directory --jobs 2 lint tests

# A process that died would be replaced, and pytest-xdist would then wait for ever.
tests: install
	@CASES=$(CASES) $(RUN)/pytest --numprocesses 3 --max-worker-restart 0 --no-loadscope-reorder

# The contract tests, builds and a push on the oldest dbt that is supported.
oldest: install
	@UV_PROJECT_ENVIRONMENT=$(OLDEST) $(UV) sync --quiet --locked --inexact --compile-bytecode \
		--python $(RUN)/python --no-python-downloads
	@$(UV) pip install --quiet --compile-bytecode --python $(OLDEST)/bin/python 'dbt-core>=1.11.16,<1.12'
	@$(OLDEST)/bin/pytest --quiet --numprocesses 2 tests/test_dagster_internals.py tests/test_dbt_internals.py \
		tests/test_hidden_variables.py tests/runs/test_build.py \
		tests/automation/test_push.py::test_a_push_of_one_model_builds_it_and_who_reads_what_changed

lint: install
	@$(RUN)/ruff format --check .
	@$(RUN)/ruff check .
	@$(RUN)/mypy
	@$(RUN)/lint-imports --no-cache >/dev/null || $(RUN)/lint-imports --no-cache
	@cd dbt_project && ../$(RUN)/dbt deps --quiet && ../$(RUN)/sqlfluff lint --disable-progress-bar .

# The pictures of the guides, as a browser sees the UI now.
pictures: install
	@PICTURES=docs/images $(RUN)/pytest --quiet tests/browser

# The image is built, and its services build a project. Some minutes, as root, on Debian.
image: install
	@IMAGE=yes $(RUN)/pytest --quiet tests/image

bench: install
	@$(RUN)/python -m benchmarks.one_model

# Everything that was built or stored here. Not the installed packages.
clean:
	rm -rf .state dbt_project/target dbt_project/dbt_packages dbt_project/logs
