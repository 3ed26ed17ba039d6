"""The verb ``export``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from acme_middleware.cli import flags
from acme_middleware.cli.report import print_json, reported
from acme_middleware.deploy import single_file
from acme_middleware.errors import ConfigurationError
from acme_middleware.issuance import lineages

STDOUT = Path("-")


@click.command(short_help="Write a certificate with its key as one file: PEM or PKCS#12.")
@click.argument("name")
@click.option("--pem", type=click.Path(path_type=Path), metavar="FILE", help="Certificate, chain and key in PEM; - prints it.")
@click.option("--p12", type=click.Path(path_type=Path), metavar="FILE", help="The same as PKCS#12, under a password.")
@click.option(
    "--password-file", type=click.Path(path_type=Path), metavar="FILE", help="Its first line is the password of --p12."
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@flags.of_table(only={"store"})
@reported
def export(
    name: str,
    pem: Path | None,
    p12: Path | None,
    password_file: Path | None,
    force: bool,
    config: Path | None,
    as_json: bool,
    **given: Any,
) -> int:
    """
    Write a certificate with its chain and its key as one file, for a program that takes no folder of files, or another host.

    The file is readable by its owner alone. The password of a PKCS#12 file is asked for on the terminal, or read from
    --password-file; there is no flag for it, since everybody on this host could read that.

    What is exported does not renew itself: export it again after each renewal.

    \b
    Exit codes: 0 written; 1 the file could not be written; 2 options, no such
    certificate, or a file is there already; 75 the store does not answer.
    """
    if (pem is None) == (p12 is None):
        raise ConfigurationError("name one file to write", hint="--pem FILE or --p12 FILE")
    if p12 == STDOUT:
        raise ConfigurationError("--p12 takes a file", hint="its bytes are no text; - is for --pem alone")
    if pem == STDOUT and as_json:
        raise ConfigurationError("--json and --pem - would both be printed", hint="leave one out")
    if password_file is not None and p12 is None:
        raise ConfigurationError("only a PKCS#12 file has a password", hint="leave --password-file out, or say --p12")
    made = lineages.certificate(lineages.open_state(flags.load(given, config)), name)
    from acme_middleware.issuance import exporting  # brings cryptography, which a wrong word need not load

    if pem == STDOUT:
        click.echo(exporting.to_pem(made), nl=False)
        return 0
    if pem is not None:
        target, data = pem, exporting.to_pem(made)
    else:
        assert p12 is not None
        target, data = p12, exporting.to_pkcs12(made, _password(password_file))
    single_file.save(target, data, force=force)
    if as_json:
        form = "pem" if pem is not None else "p12"
        print_json({"action": "exported", "name": made.name, "names": made.names, "form": form, "file": str(target)})
    else:
        click.echo(f"  exported    {made.name} with its key to {target}, readable by its owner alone")
    return 0


def _password(file: Path | None) -> bytes:
    if file is None:
        if not sys.stdin.isatty():
            raise ConfigurationError(
                "a PKCS#12 file needs a password, and there is no terminal to ask at",
                hint="put it into a file: --password-file",
            )
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)).encode()
    try:
        with file.open("rb") as lines:
            password = lines.readline(10_000).rstrip(b"\r\n")
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}", hint="name another with --password-file") from error
    if not password:
        raise ConfigurationError(f"the first line of {file} is empty", hint="a password there protects the key")
    return password
