"""Reading a certificate and its key as one pair, on the layouts of others too, and while they are written."""

import os
import ssl
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from acme_middleware.deploy.publish import publish
from acme_middleware.deploy.snapshot import Snapshot, read, version
from acme_middleware.errors import ConfigurationError
from acme_middleware.testing.certificates import self_made

NAME = "example.com"


@pytest.fixture(scope="module")
def pairs():
    return [self_made(NAME) for _ in range(3)]


def fullchain(pems):
    return pems.cert + pems.chain


def ours(folder, pems):
    current = publish(folder / "live", NAME, lambda: pems).current
    return current / "fullchain.pem", current / "privkey.pem"


def certbot(folder, pems):
    """Four links, each turned by itself."""
    archive, live = folder / "archive" / NAME, folder / "live" / NAME
    for directory in (archive, live):
        directory.mkdir(parents=True, exist_ok=True)
    number = len(list(archive.iterdir())) // 2 + 1
    for file, data in (("fullchain", fullchain(pems)), ("privkey", pems.key)):
        (archive / f"{file}{number}.pem").write_bytes(data)
        (live / f"{file}.pem").unlink(missing_ok=True)
        (live / f"{file}.pem").symlink_to(f"../../archive/{NAME}/{file}{number}.pem")
    return live / "fullchain.pem", live / "privkey.pem"


def kubernetes(folder, pems):
    """Links to links: tls.crt -> ..data/tls.crt, ..data -> ..2026_11_24."""
    number = len(list(folder.glob("..20*"))) + 1
    directory = folder / f"..2026_{number}"
    directory.mkdir()
    (directory / "tls.crt").write_bytes(fullchain(pems))
    (directory / "tls.key").write_bytes(pems.key)
    (folder / "..data_tmp").symlink_to(directory.name)
    (folder / "..data_tmp").rename(folder / "..data")
    for file in ("tls.crt", "tls.key"):
        if not (folder / file).is_symlink():
            (folder / file).symlink_to(f"..data/{file}")
    return folder / "tls.crt", folder / "tls.key"


def in_place(folder, pems):
    (folder / "cert.pem").write_bytes(fullchain(pems))
    (folder / "key.pem").write_bytes(pems.key)
    return folder / "cert.pem", folder / "key.pem"


def one_file(folder, pems):
    (folder / "bundle.new").write_bytes(fullchain(pems) + pems.key)
    (folder / "bundle.new").rename(folder / "bundle.pem")
    return folder / "bundle.pem", folder / "bundle.pem"


LAYOUTS = [
    pytest.param(ours, id="ours"),
    pytest.param(certbot, id="certbot's links"),
    pytest.param(kubernetes, id="a Kubernetes secret"),
    pytest.param(in_place, id="written over in place"),
    pytest.param(one_file, id="one file, by rename"),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_pair_is_read_and_its_version_changes_with_it(tmp_path, pairs, layout):
    paths = layout(tmp_path, pairs[0])
    snapshot = read(*paths)
    assert snapshot.certificate.startswith(fullchain(pairs[0]))
    assert snapshot.key.endswith(pairs[0].key)
    assert version(*paths) == snapshot.version == read(*map(str, paths)).version
    assert layout(tmp_path, pairs[1]) == paths
    assert version(*paths) != snapshot.version
    assert read(*paths).key.endswith(pairs[1].key)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_half_of_a_pair_is_read_while_others_write(tmp_path, pairs, layout):
    paths = layout(tmp_path, pairs[0])
    keys = {fullchain(pems): pems.key for pems in pairs}
    over = threading.Event()

    def write():
        number = 0
        while not over.is_set():
            number += 1
            layout(tmp_path, pairs[number % 3])
            over.wait(0.002)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        snapshots = [read(*paths, patience=30) for _ in range(300 if os.environ.get("SCALE") == "full" else 40)]
    finally:
        over.set()
        writer.join()
    for snapshot in snapshots:
        cert = next(cert for cert in keys if snapshot.certificate.startswith(cert))
        assert snapshot.key.endswith(keys[cert])
    assert len({snapshot.key for snapshot in snapshots}) > 1


def handshake(context):
    """The certificate that a server with this context shows, in DER."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=NAME),
        context.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    for _ in range(20):
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                continue
    assert waiting == []
    return ends[0].getpeercert(binary_form=True)


@pytest.mark.parametrize("memory", [True, False], ids=["from memory", "from a temporary file"])
def test_a_context_serves_what_was_read_though_the_files_have_changed_since(tmp_path, pairs, monkeypatch, memory):
    if not memory:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    snapshot = read(*in_place(tmp_path, pairs[0]))
    in_place(tmp_path, pairs[1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    snapshot.load_into(context)
    assert handshake(context) == ssl.PEM_cert_to_DER_cert(pairs[0].cert.decode())


def test_a_temporary_file_is_private_and_gone_afterwards(tmp_path, pairs, monkeypatch):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    snapshot = Snapshot(fullchain(pairs[0]), pairs[0].key, (("", 0, 0), ("", 0, 0)))
    seen = []

    class Watching(ssl.SSLContext):
        def load_cert_chain(self, certfile, keyfile=None, password=None):
            seen.extend((Path(path).parent.parent, stat.S_IMODE(os.stat(path).st_mode)) for path in (certfile, keyfile))
            super().load_cert_chain(certfile, keyfile, password)

    old = os.umask(0)
    try:
        snapshot.load_into(Watching(ssl.PROTOCOL_TLS_SERVER))
    finally:
        os.umask(old)
    assert seen == [(tmp_path, 0o600)] * 2
    assert list(tmp_path.iterdir()) == []


def encrypted(pems):
    key = load_pem_private_key(pems.key, None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(lambda cert, key, other: key.write_bytes(other.key), "is not the key of", id="another key"),
        pytest.param(lambda cert, key, other: key.unlink(), "No such file", id="no key file"),
        pytest.param(lambda cert, key, other: cert.unlink(), "No such file", id="no certificate file"),
        pytest.param(lambda cert, key, other: key.write_bytes(b""), "no certificate and key", id="an empty key file"),
        pytest.param(lambda cert, key, other: cert.write_bytes(cert.read_bytes()[:99]), "no certificate", id="half a file"),
        pytest.param(lambda cert, key, other: key.write_bytes(encrypted(other)), "is encrypted", id="an encrypted key"),
        pytest.param(lambda cert, key, other: key.write_bytes(b" " * 2_000_000), "far too long", id="a file of megabytes"),
        pytest.param(lambda cert, key, other: (key.unlink(), os.mkfifo(key)), "no certificate and key", id="a FIFO"),
        pytest.param(lambda cert, key, other: (key.unlink(), key.mkdir()), "directory", id="a directory"),
        pytest.param(lambda cert, key, other: (key.unlink(), key.symlink_to(key)), "symbolic", id="a link to itself"),
    ],
)
def test_what_is_no_pair_is_refused_with_the_reason(tmp_path, pairs, spoil, message):
    cert, key = in_place(tmp_path, pairs[0])
    spoil(cert, key, pairs[1])
    opened = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ConfigurationError, match=message) as caught:
        read(cert, key, patience=0.05)
    assert len(os.listdir("/proc/self/fd")) == opened, "what was opened is closed"
    assert caught.value.hint
    assert "PRIVATE" not in repr(caught.value.facts)


def test_a_reader_waits_for_a_file_that_is_being_written(tmp_path, pairs):
    cert, key = in_place(tmp_path, pairs[0])
    key.write_bytes(pairs[1].key)
    later = threading.Timer(0.3, lambda: cert.write_bytes(fullchain(pairs[1])))
    later.start()
    try:
        assert read(cert, key, patience=30).certificate == fullchain(pairs[1])
    finally:
        later.join()


def test_the_key_is_in_no_repr(tmp_path, pairs):
    snapshot = read(*one_file(tmp_path, pairs[0]))
    assert "BEGIN" not in repr(snapshot)


def test_a_server_that_reads_pairs_loads_no_cryptography():
    program = (
        "import acme_middleware.deploy.snapshot, sys; print(sorted({'cryptography', 'acme', 'requests'} & set(sys.modules)))"
    )
    output = subprocess.check_output(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}, text=True
    )
    assert output == "[]\n"
