"""Run as a program: ask a TLSContext for many names that no certificate is for, and print how memory grows meanwhile."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import random
import ssl
import string
import sys
from collections.abc import Iterator
from pathlib import Path

from tls_lab import client_context

from acme_middleware.tls import TLSContext

PLAIN = string.ascii_lowercase + string.digits


def names(seed: int) -> Iterator[str]:
    """Of all kinds, never the same twice: plain, deep, long, with capitals, dots, slashes, control and other characters."""
    chance = random.Random(seed)
    for number in itertools.count():
        unique = f"{number}-{chance.getrandbits(64):x}"
        yield unique + ".example.com"
        yield f"{unique}.WILD.example"
        yield "a." * chance.randrange(1, 90) + unique
        yield unique + "".join(chance.choices(PLAIN, k=chance.randrange(64, 200)))
        yield f"../../{unique}/etc/passwd"
        yield "." + unique
        yield unique + "..example.com."
        yield unique + "".join(chance.choices(string.printable, k=20))
        yield "*." + unique
        yield "xn--" + unique


class Hello:
    """A client's hello, to be sent again with another name in it: the lengths before the name are changed as well."""

    def __init__(self) -> None:
        placeholder = "placeholder.example"
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        end = client_context().wrap_bio(to_client, to_server, server_hostname=placeholder)
        with contextlib.suppress(ssl.SSLWantReadError):  # it waits for an answer
            end.do_handshake()
        record = to_server.read()
        at = record.index(placeholder.encode())
        self.head, self.tail = record[: at - 9], record[at + len(placeholder) :]
        # RFC 6066 section 3, in a hello of RFC 8446 section 4.1.2, in a record of section 5.1.
        assert record[at - 9 : at - 7] == b"\x00\x00", "the type of the extension"
        hello = record[5:]
        position = 4 + 2 + 32
        position += 1 + hello[position]
        position += 2 + int.from_bytes(hello[position : position + 2], "big")
        position += 1 + hello[position]
        self.extensions = 5 + position  # where the length of all extensions stands

    def asking_for(self, name: bytes) -> bytes:
        size = len(name).to_bytes(2, "big")
        extension = (
            b"\x00\x00" + (len(name) + 5).to_bytes(2, "big") + (len(name) + 3).to_bytes(2, "big") + b"\x00" + size + name
        )
        made = bytearray(self.head + extension + self.tail)
        made[3:5] = (len(made) - 5).to_bytes(2, "big")
        made[6:9] = (len(made) - 9).to_bytes(3, "big")
        made[self.extensions : self.extensions + 2] = (len(made) - self.extensions - 2).to_bytes(2, "big")
        return bytes(made)


def resident() -> int:
    """Bytes of memory that this process has."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


def main() -> None:
    live, count, warm_up = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    context, hello = TLSContext(live, check_every=0.05), Hello()
    outcomes: dict[str, int] = {}
    before = 0
    for number, name in zip(range(count), names(7), strict=False):
        if number == warm_up:
            gc.collect()
            before = resident()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = context.wrap_bio(incoming, outgoing, server_side=True)
        incoming.write(hello.asking_for(name.encode()))
        try:
            server.do_handshake()
            outcome = "finished"
        except ssl.SSLWantReadError:
            outcome = "a certificate was sent" if len(outgoing.read()) > 500 else "nothing was sent"
        except ssl.SSLError as error:
            outcome = error.reason or "failed"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    gc.collect()
    print(json.dumps({"grown": resident() - before, "outcomes": outcomes}))


if __name__ == "__main__":
    main()
