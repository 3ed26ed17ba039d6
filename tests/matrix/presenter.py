"""The process that issues, in the matrix: presents a token per line of its input, "URL TOKEN KEY-AUTHORIZATION"."""

from __future__ import annotations

import sys

import django

from acme_middleware.stores import open_challenges

django.setup()
stores = {}
for line in sys.stdin:
    url, token, key_authorization = line.split()
    if url not in stores:
        stores[url] = open_challenges(url)
    stores[url].present(token, key_authorization, ttl=3600)
    print(token, flush=True)
