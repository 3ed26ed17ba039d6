"""issue() from a task, as Django's own tasks run it, and as any other queue does: in a thread that no request began."""

from concurrent.futures import ThreadPoolExecutor

import django
import pytest
from django.db import connections, transaction
from django_acme_middleware import issue
from mysite.wsgi import application

from acme_middleware.errors import StoreMisconfigured

pytest_plugins = ["acme_middleware.testing.plugin"]


def get_certificate(name):
    return issue(name, allow=lambda asked: asked == name, hourly=10).action.value


def in_a_thread(name):
    def run():
        try:
            return get_certificate(name)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


QUEUES = {"a thread": in_a_thread}

if django.VERSION >= (6,):
    from django.tasks import task

    enqueued = task(get_certificate)

    def by_django(name):
        result = enqueued.enqueue(name)
        if result.errors:
            raise result.errors[0].exception_class(result.errors[0].traceback)
        return result.return_value

    QUEUES["a task of Django's"] = by_django


@pytest.fixture
def ca(acme_ca, settings, transactional_db):
    acme_ca.resolve["*"] = application
    settings.ACME_CA, settings.ACME_CA_BUNDLE = acme_ca.directory_url, acme_ca.ca_bundle
    settings.ACME_SELF_CHECK, settings.ACME_PUBLISH_DIR = "skip", None
    settings.TASKS = {"default": {"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"}}
    return acme_ca


@pytest.mark.parametrize("run", QUEUES.values(), ids=QUEUES)
def test_a_task_gets_a_certificate_and_once_more_has_nothing_to_do(ca, run):
    assert run("shop.example") == "issued"
    assert run("shop.example") == "not due"
    assert len(ca.requests("new-order")) == 1


def test_a_task_that_runs_inside_of_the_transaction_that_began_it_is_refused(ca):
    """As with Django's immediate backend, where it is not told to begin on commit."""
    here = QUEUES.get("a task of Django's", get_certificate)
    with pytest.raises(StoreMisconfigured, match="transaction"), transaction.atomic():
        here("shop.example")
    assert ca.requests() == []
