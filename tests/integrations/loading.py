"""What importing an adapter, and opening its store, loads into a web worker."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"acme", "josepy", "requests", "urllib3", "cryptography", "OpenSSL", "click", "rich", "sqlalchemy", "redis"}
FOR_COMMANDS = ("cli", "issuance", "local_ca", "deploy")


def needless_imports(framework: str, adapter: str) -> set[str]:
    """The modules that only issuing needs, and that the adapter loads all the same, after its framework (a list of modules)."""
    script = (
        f"import sys, {framework}; before = set(sys.modules)\n"
        f"import {adapter}, acme_middleware.responder; acme_middleware.responder.Responder('file:/nonexistent')\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, timeout=60, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert {"acme_middleware", "acme_middleware.stores", adapter} <= loaded
    ours = {name for name in loaded if name.startswith("acme_middleware.") and name.split(".")[1] in FOR_COMMANDS}
    return ours | {name for name in loaded if name.partition(".")[0] in HEAVY}
