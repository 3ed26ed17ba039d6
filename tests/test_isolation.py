"""The structure, held: who may import whom, and how long a file may be. Read from the source, so that nothing is missed."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "acme_middleware"
ADAPTERS = ROOT / "integrations"

FRAMEWORKS = {"django", "asgiref", "flask", "werkzeug", "starlette", "fastapi", "tornado", "sanic", "aiohttp", "quart"}
MODULES = sorted(CORE.rglob("*.py"))
ALL = [*MODULES, *sorted(ADAPTERS.rglob("*.py"))]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it, as dotted names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{named(path)} has a relative import: names say more"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def inside(path: Path, *folders: str) -> bool:
    return path.relative_to(CORE).parts[0] in folders


def inside_any(path: Path, *folders: str) -> bool:
    return path.is_relative_to(CORE) and inside(path, *folders)


def ours(path: Path) -> set[str]:
    """The parts of the core that a module imports: the second word of each import."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("acme_middleware.")}


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_core_imports_no_web_framework(path: Path) -> None:
    assert not tops(path) & (FRAMEWORKS - ({"werkzeug"} if inside(path, "local_ca") else set()))


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_only_the_protocol_imports_the_acme_client(path: Path) -> None:
    if not inside(path, "protocol"):
        assert not tops(path) & ({"acme", "requests", "urllib3"} | (set() if inside(path, "local_ca") else {"josepy"}))
    assert not tops(path) & {"OpenSSL"}, "pyOpenSSL's drift is what killed the clients before us"


ALLOWED = {
    "protocol": {"_text", "clock", "errors", "protocol", "__version__"},
    "stores": {"_text", "errors", "stores", "challenge", "_files"},
    "deploy": {"_text", "clock", "errors", "stores", "_files", "deploy", "verify"},
    "issuance": {
        *{
            "_text",
            "errors",
            "events",
            "options",
            "authorities",
            "challenge",
            "clock",
            "held",
            "lease",
            "issuance",
            "protocol",
            "stores",
            "deploy",
            "foreign",
            "declared",
            "verify",
        },
        "__version__",
    },
    "foreign": {"_text", "errors", "foreign"},
    "tls": {"clock", "deploy", "errors", "issuance", "options", "stores", "tls"},
    "local_ca": {"local_ca", "errors", "clock", "_files", "__version__"},
    "api.py": {"_offload", "clock", "errors", "events", "issuance", "options"},
    "_offload.py": set(),
    "renewer.py": {"_text", "clock", "errors", "events", "issuance", "lease", "options", "stores"},
    "renewing.py": {"errors", "events", "issuance", "options"},
    "asgi_renewal.py": {"renewer"},
    "gunicorn.py": {"renewer"},
    "challenge.py": set(),
    "lookup.py": {"stores"},
    "responder.py": {"challenge", "errors", "lookup", "stores"},
    "wsgi.py": {"challenge", "responder", "stores"},
    "asgi.py": {"challenge", "responder", "stores"},
    "clock.py": set(),
    "errors.py": set(),
    "events.py": {"_text"},
    "_text.py": set(),
    "_extras.py": set(),
    "options.py": {"errors", "declared", "encryption_keys", "option_kinds"},
    "option_kinds.py": set(),
    "declared.py": set(),
    "encryption_keys.py": {"errors"},
    "authorities.py": {"errors"},
    "verify.py": {"_text", "presented"},
    "presented.py": {"_text", "clock"},
    "lease.py": {"clock", "errors", "held", "stores", "_holder"},
    "held.py": {"stores", "_holder"},
    "_holder.py": set(),
    "_files.py": set(),
}


@pytest.mark.parametrize(
    "path", [path for path in MODULES if not inside(path, "cli", "testing", "__init__.py", "__main__.py")], ids=named
)
def test_imports_go_one_way_through_the_house(path: Path) -> None:
    part = path.relative_to(CORE).parts[0]
    assert part in ALLOWED, f"{part} is new: say here what it may import"
    assert ours(path) <= ALLOWED[part]


@pytest.mark.parametrize("path", sorted(ADAPTERS.rglob("*.py")), ids=named)
def test_adapters_translate_and_know_neither_the_protocol_nor_the_path_of_tokens(path: Path) -> None:
    code = ast.parse(path.read_text())
    for node in ast.walk(code):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]  # documentation may speak of it
    assert not re.search(r"acme-challenge|protocol", ast.unparse(code).lower())
    assert not {name for name in imports(path) if name.startswith("acme_middleware.protocol")}


@pytest.mark.parametrize("path", ALL, ids=named)
def test_time_of_day_is_read_in_one_place(path: Path) -> None:
    """Expiry of tokens and log entries is the back end's own time; who decides about certificates asks clock.now()."""
    if path.name != "clock.py" and not inside_any(path, "testing", "local_ca"):
        assert "datetime.now(" not in path.read_text()


def test_adapters_have_names_of_their_own() -> None:
    assert not (ADAPTERS / "__init__.py").exists()
    packages = [path for path in ADAPTERS.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert packages
    assert all(path.name.endswith("_acme_middleware") and (path / "py.typed").exists() for path in packages)


@pytest.mark.parametrize("path", ALL, ids=named)
def test_no_module_is_over_300_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


def test_what_a_module_needs_is_declared() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[<>=\[]", entry)[0] for entry in project["dependencies"]}
    third = {name for path in MODULES for name in tops(path)} - set(sys.stdlib_module_names) - {"acme_middleware", "_typeshed"}
    # An event loop or a test runner that is there already, our adapter, what an extra brings.
    optional = {"trio", "pytest", "django_acme_middleware", "werkzeug", "redis", "sqlalchemy", "psycopg", "pymysql"}
    optional |= {"gunicorn", "hypercorn", "uvicorn", "uvicorn_worker"}  # servers that are there already
    assert third - optional == declared
