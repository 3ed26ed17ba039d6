"""
Issuing and renewing: from names to a certificate that is saved and published.

:class:`acme_middleware.issuance.issuer.Issuer` is the way in.
"""
