"""A small site behind a TLS proxy, with a certificate that it gets for itself."""
