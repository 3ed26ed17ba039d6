"""aiohttp's own runner: ``run_aiohttp.py FD MODULE:NAME``."""

from __future__ import annotations

import importlib
import logging
import socket
import sys

from aiohttp import web

logging.basicConfig(level=logging.INFO)
module, _, name = sys.argv[2].partition(":")
web.run_app(getattr(importlib.import_module(module), name), sock=socket.socket(fileno=int(sys.argv[1])))
