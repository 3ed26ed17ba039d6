"""A challenge source that takes 50 ms, as a database across the street does."""

import time


class SlowSource:
    blocking = True

    def key_authorization(self, token):
        time.sleep(0.05)
        return f"{token}.slow" if token.startswith("token") else None
