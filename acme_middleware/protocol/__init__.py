"""
The conversation with a CA: RFC 8555 (ACME) and RFC 9773 (renewal information) over certbot's ``acme`` library.

Nothing outside this folder imports ``acme`` or ``requests``, and nothing here knows of stores or of issuing.
"""
