"""Where a framework is not installed: what needs it says what to install, and what does not need it works."""

from __future__ import annotations

import subprocess
import sys

import pytest

from acme_middleware._extras import extra

ADAPTERS = ["aiohttp", "django", "flask", "tornado"]


def python(code: str, *, without: str) -> str:
    """The last line that this code prints, or fails with, in a Python that has not got a module."""
    hidden = f"import sys; sys.modules[{without!r}] = None\n"
    ran = subprocess.run([sys.executable, "-c", hidden + code], capture_output=True, text=True, timeout=60, check=False)
    return (ran.stdout + ran.stderr).strip().splitlines()[-1]


@pytest.mark.parametrize("framework", ADAPTERS)
def test_the_adapter_says_what_to_install(framework: str) -> None:
    said = python(f"import {framework}_acme_middleware", without=framework)
    assert said.startswith("ModuleNotFoundError: ")
    assert said.endswith(f": pip install 'acme-middleware[{framework}]'")


def test_any_part_of_the_django_adapter_says_what_to_install() -> None:
    said = python("from django_acme_middleware.middleware import AcmeMiddleware", without="django")
    assert said.endswith(": pip install 'acme-middleware[django]'")


def test_the_store_says_what_to_install() -> None:
    said = python(
        "from acme_middleware.errors import StoreMisconfigured\nfrom acme_middleware.stores import open_challenges\n"
        "try: open_challenges('django:')\nexcept StoreMisconfigured as error: print(error, error.hint)",
        without="django",
    )
    assert said == "the store django: needs django, which cannot be imported pip install 'acme-middleware[django]'"


def test_starlettes_adapter_needs_nothing_but_asgi() -> None:
    assert python("import starlette_acme_middleware; print('imported')", without="starlette") == "imported"


@pytest.mark.parametrize("framework", [*ADAPTERS, "starlette"])
def test_the_core_works_without(framework: str) -> None:
    parts = "acme_middleware.wsgi, acme_middleware.asgi, acme_middleware.cli, acme_middleware.issuance.issuer"
    assert python(f"import {parts}; print('imported')", without=framework) == "imported"


def test_a_library_that_is_missing_for_another_reason_is_not_explained_away() -> None:
    with pytest.raises(ModuleNotFoundError) as missing, extra("flask", "flask"):
        import a_module_of_nobody  # type: ignore[import-not-found]  # noqa: F401
    assert str(missing.value) == "No module named 'a_module_of_nobody'"
