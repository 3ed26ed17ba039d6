"""Take published files away again: what publishing has made, and nothing that somebody has put beside it."""

from __future__ import annotations

import os
from pathlib import Path

from acme_middleware import _files
from acme_middleware.deploy import state
from acme_middleware.deploy.publish import _explained, _locked, _remove, directory_name

__all__ = ["unpublish"]


def unpublish(root: Path, name: str) -> tuple[Path | None, list[str]]:
    """
    Remove the published files of a certificate, the link that shows them first.

    Args:
        root: PUBLISH_DIR.
        name: What the certificate is known by.

    Returns:
        The folder that was emptied, None where there was none, and the names of what is left in it because it was not made
        by publishing. An empty folder is removed.

    Raises:
        PublishFailed: something could not be removed.
    """
    lineage = Path(root).absolute() / directory_name(name)
    # A link in its place leads to somebody else's folder.
    if lineage.is_symlink() or not lineage.is_dir():
        return None, []
    with _explained(root), _locked(Path(root).absolute()):
        ours = [entry for entry in os.listdir(lineage) if _is_ours(entry)]
        for entry in sorted(ours, key=lambda entry: entry != "current"):
            _remove(lineage / entry)
        state.forget(Path(root).absolute(), name)
        left = sorted(os.listdir(lineage))
        if not left:
            lineage.rmdir()
        _files.sync_folder(lineage.parent)
    return lineage, left


def _is_ours(entry: str) -> bool:
    return entry in ("current", ".current", ".try") or entry.startswith(".new-") or (entry.isascii() and entry.isdigit())
