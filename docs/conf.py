"""How Sphinx builds these pages: `make docs`. They are plain Markdown as well, to be read where the code is."""

from __future__ import annotations

from acme_middleware import __version__

project = "acme-middleware"
release = __version__
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"acme-middleware {release}"
html_copy_source = False
html_show_sourcelink = False
# A link to a heading is a link that can break: it is checked like one to a page.
myst_heading_anchors = 3
nitpicky = True
