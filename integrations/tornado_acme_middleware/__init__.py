"""ACME challenges for tornado apps."""
