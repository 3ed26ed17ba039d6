"""ACME challenges for starlette apps."""
