"""
What other ACME clients keep: one reader for each format, which changes nothing and believes nothing.

A tree may have been damaged, copied half, or written by somebody who wishes us ill: files are read up to a size, only inside
the tree, and a certificate counts only with the key that belongs to it. What cannot be read is told by name, and the rest is
read all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from acme_middleware.foreign.found import Account, Found, Lineage, Trouble
from acme_middleware.foreign.tree import NoTree, Tree

__all__ = ["FORMATS", "Account", "Found", "Lineage", "NoTree", "Trouble", "read"]

FORMATS: Mapping[str, str] = {"certbot": "certbot", "lego": "lego", "acme.sh": "acme_sh", "simp_le": "simp_le"}
"""The formats, and the module that reads each."""


def read(form: str, path: Path) -> Found:
    """
    Read the tree of another client.

    Args:
        form: One of FORMATS.
        path: Its folder: ``/etc/letsencrypt``, ``.lego``, ``~/.acme.sh``; for simp_le the folder of one certificate, or one
            with such folders in it.

    Raises:
        NoTree: it is no folder, cannot be read, or nothing in it is of that format.
    """
    reader: Callable[[Tree], Found] = import_module(f"acme_middleware.foreign.{FORMATS[form]}").read
    found = reader(Tree(path))
    if not (found.accounts or found.lineages or found.troubles):
        raise NoTree(f"nothing in {path} is {form}'s")
    return found
