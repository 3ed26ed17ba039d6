"""ACME challenges for flask apps."""
