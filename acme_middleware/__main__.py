"""``python -m acme_middleware``: the command, where its script is not on the PATH."""

import sys

from acme_middleware.cli import main

sys.exit(main(prog_name="python -m acme_middleware"))
