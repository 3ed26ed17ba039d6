"""ACME challenges for aiohttp apps."""
