# `make demo` and `make test` install what they need first: see tools/setup. ARGS go to the program that is run.
.PHONY: demo fleet test chaos lowest lint types docs nox bench fresh clean
.SILENT:

demo:
	tools/setup demo
	.venv/bin/python tools/demo.py $(ARGS)

# Two app hosts behind HAProxy that share a PostgreSQL; one dies while it gets the certificate.
fleet:
	tools/setup test
	.venv/bin/python tools/fleet.py $(ARGS)

test:
	tools/setup test
	.venv/bin/python -m pytest $(ARGS)

# Schedules of faults over several hosts, drawn for so many minutes (root only): docs/guarantees.md.
MINUTES = 10
chaos:
	tools/setup test
	.venv/bin/python tests/chaos/chaos_all.py --minutes $(MINUTES) $(ARGS)

# With the oldest libraries that pyproject.toml allows. What is left out does not depend on them, or is the newest's to show.
LEFT_OUT = chaos matrix fuzz deploy foreign local_ca errors renewer tls test_demo.py test_docs_build.py test_packaging.py \
	test_tools.py test_isolation.py test_publish_faults.py test_from_your_code.py integrations/test_overlap.py \
	integrations/test_store_outage.py integrations/test_slow_store_servers.py integrations/test_fleet_example.py \
	integrations/test_haproxy_example.py renewal/test_long_life.py stores/test_many_processes.py \
	stores/test_server_killed_while_issuing.py stores/test_moving_between_engines.py stores/test_caps_of_many_hosts.py \
	testing/test_own_store.py testing/test_stores_by_url.py
lowest:
	tools/setup lowest
	.venv-lowest/bin/python -m pytest --ignore-glob '*/test_kill*' --ignore-glob '*/test_*page*' $(LEFT_OUT:%=--ignore tests/%) $(ARGS)

lint:
	tools/setup test
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .

types:
	tools/setup test
	PYTHONPATH=example_projects/django_site .venv/bin/mypy

# The pages, in docs/_build: a warning, such as a link to nowhere, is an error.
docs:
	tools/setup test
	.venv/bin/python -m sphinx -q -W --keep-going -n docs docs/_build $(ARGS)

# Other versions of Python and Django, each framework absent in turn, the wheel alone, type checks of the public API: noxfile.py.
nox:
	tools/setup test
	.venv/bin/python -m nox $(ARGS)

bench:
	tools/setup test
	set -e; for benchmark in benchmarks/*.py; do echo "$$benchmark"; .venv/bin/python "$$benchmark" $(ARGS); done

# Both commands of the README in a Debian that has nothing yet (root only).
fresh:
	tools/fresh

clean:
	rm -rf .venv .venv-lowest .nox .pebble .setup.lock dist build docs/_build .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
