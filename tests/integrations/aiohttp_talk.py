"""The tests' way to start aiohttp_apps."""

import sys

from serving import serve


def aiohttp(how, *, env, **options):
    """Serve one of the tests' sites, ``how`` as aiohttp_apps says."""
    return serve([sys.executable, "-m", "aiohttp_apps", how, "{fd}"], env=env, **options)
