# make up · make check · make test · make demo · make plan · make bench.   A Python other than python3: make PYTHON=… up

PORT ?= 3000
RUN := .venv/bin

.PHONY: install up demo doctor plan check test lint bench clean

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

test: lint
	@$(RUN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

lint: install
	@$(RUN)/ruff format --check .
	@$(RUN)/ruff check .
	@$(RUN)/mypy
	@cd dbt_project && ../$(RUN)/dbt deps --quiet && ../$(RUN)/sqlfluff lint --disable-progress-bar .

bench: install
	@$(RUN)/python -m benchmarks.one_model

# Everything that was built or stored here. Not the installed packages.
clean:
	rm -rf .state dbt_project/target dbt_project/dbt_packages dbt_project/logs
