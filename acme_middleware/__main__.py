"""The program ``acme-middleware``, and ``python -m acme_middleware`` where its script is not on the PATH."""

from __future__ import annotations

import gc
import sys
from typing import NoReturn


def run() -> NoReturn:
    """Run the command line of this process, and exit."""
    # A command makes some hundred thousand objects, nearly all while modules load and for good, and lives half a second:
    # looking for garbage among them again and again, and once more at the end, would take a tenth of that.
    gc.set_threshold(100_000)
    from acme_middleware.cli import main

    code = main()
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    run()
