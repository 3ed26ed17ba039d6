"""The faults there are, as a table; what they do stands in the modules that it imports."""

from __future__ import annotations

from acme_middleware.local_ca.faults import Kind

KINDS: tuple[Kind, ...] = ()
