"""From the certificate in the store to the one being served."""
