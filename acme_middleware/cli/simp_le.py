"""The verb ``simp_le``: the flags, files and exit codes of simp_le 0.20."""

from __future__ import annotations

import logging
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from acme_middleware import events
from acme_middleware import options as table
from acme_middleware.cli import flags
from acme_middleware.cli.progress import Progress
from acme_middleware.cli.report import plain, print_json, reported
from acme_middleware.errors import EXIT_FAILED, EXIT_TRY_LATER, EXIT_USAGE, AcmeMiddlewareError, ConfigurationError
from acme_middleware.options import Options

if TYPE_CHECKING:  # it brings the ACME client
    from acme_middleware.issuance.simp_le import Job

NO_RENEWAL = 1
FILES = (
    *("account_key.json", "account_reg.json", "key.pem", "key.der", "cert.pem", "cert.der"),
    *("chain.pem", "fullchain.pem", "full.pem"),
)
RETIRED = {"acme-v01.api.letsencrypt.org": "letsencrypt", "acme-staging.api.letsencrypt.org": "letsencrypt-staging"}
"""What scripts of before 2021 name: servers that are switched off, and those that took their place."""


class NotNeeded(click.exceptions.Exit):
    """No renewal is needed: exit code 1, which everywhere else in this program is a failure."""


class SimpLeError(AcmeMiddlewareError):
    """Any error, with simp_le's only exit code for it."""

    exit_code = EXIT_USAGE


class SimpLeCommand(click.Command):
    """A command whose exit code is 1 only where no renewal is needed: a script takes that for good."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        try:
            return super().invoke(ctx)
        except NotNeeded:
            raise
        except click.exceptions.Exit as end:
            failed = end.exit_code in (EXIT_FAILED, EXIT_TRY_LATER)
            raise click.exceptions.Exit(EXIT_USAGE if failed else end.exit_code) from None
        except BrokenPipeError:
            raise click.exceptions.Exit(EXIT_USAGE) from None


@click.command(cls=SimpLeCommand, short_help="Do what simp_le did, by the same flags, with the same files.")
@click.option("-d", "--vhost", "vhosts", multiple=True, metavar="NAME[:ROOT]", help="A name, and the folder it is served from.")
@click.option("--default_root", metavar="PATH", help="The folder of the names that come without one.")
@click.option(
    "-f", "files", multiple=True, type=click.Choice(FILES), metavar="FILE", help=f"A file to keep here: {', '.join(FILES)}."
)
@click.option("--valid_min", type=click.IntRange(0), metavar="SECONDS", help="Renew what is valid for less.  [2592000]")
@click.option("--cert_key_size", type=click.Choice(("2048", "3072", "4096")), metavar="BITS", help="RSA key size.  [4096]")
@click.option("--reuse_key", is_flag=True, default=None, help="Keep the key that is there.")
@click.option("--use_alt_chain", type=click.IntRange(0), metavar="N", help="Take the CA's alternate chain of that number.")
@click.option("--account_key_size", type=click.IntRange(2048, 8192), default=4096, metavar="BITS", help="RSA key size.  [4096]")
@click.option(
    "--account_key_public_exponent", type=click.Choice(("3", "65537")), default="65537", metavar="E", help="Of that key."
)
@click.option("--email", help="The account's contact address, sent to the CA.")
@click.option("--server", metavar="URI", help="The CA's directory, or its name as in ACME_CA.")
@click.option("--ca_bundle", metavar="FILE", help="A PEM file of roots to trust for the CA's own HTTPS.")
@click.option("--user_agent", metavar="NAME", help="Taken, and not used: what is sent is our own.")
@click.option("--tos_sha256", metavar="HASH", hidden=True)
@click.option("--revoke", is_flag=True, help="Have the certificate that is here revoked.")
@click.option("-v", "--verbose", is_flag=True, help="Log what is asked of the CA to standard error.")
@click.option("--config", type=click.Path(path_type=Path), help="Read options from this TOML file.")
@reported
def simp_le(
    vhosts: tuple[str, ...],
    default_root: str | None,
    files: tuple[str, ...],
    valid_min: int | None,
    account_key_size: int,
    account_key_public_exponent: str,
    revoke: bool,
    verbose: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """
    Get a certificate into files of the current folder, or renew the one in them, as simp_le 0.20 does it:

    \b
    acme-middleware simp_le -d example.com:/var/www/html -f key.pem -f fullchain.pem

    The CA fetches its tokens from the folder of each name. Run the same from a timer: only what is valid for less than
    --valid_min is renewed, by default for 30 days, or for a third of its lifetime if that is less. As with simp_le, running it
    says that you agree to the CA's terms of service.

    Options that have no flag here, such as ACME_KEY_TYPE, are read as everywhere. What an interrupted run leaves to the next
    one is in .acme-middleware beside the files.

    \b
    Exit codes: 0 a certificate was written, or revoked; 1 no renewal was needed;
    2 any error.
    """
    if verbose:
        logging.basicConfig(level=logging.DEBUG, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        with Progress(quiet=as_json) as progress:
            options = _options(given, progress)
            from acme_middleware.issuance.simp_le import Job  # what it brings is not for --help

            job = Job(
                files=tuple(dict.fromkeys(files)),
                folder=Path.cwd(),
                names=() if revoke else _names(vhosts, default_root),
                valid_min=None if valid_min is None else timedelta(seconds=valid_min),
                account_key_size=account_key_size,
                account_key_exponent=int(account_key_public_exponent),
                by_hand=sys.stdin.isatty(),
            )
            return _revoke(job, options, as_json) if revoke else _issue(job, options, progress, as_json)
    except AcmeMiddlewareError as error:
        facts = {**error.facts, "type": type(error).__name__}
        raise SimpLeError(str(error), hint=error.hint, **facts) from error


def _options(given: dict[str, Any], progress: Progress) -> Options:
    config, size, chain = given.pop("config"), given.pop("cert_key_size"), given.pop("use_alt_chain")
    server = given.pop("server")
    if given.pop("user_agent") is not None:
        progress.line("warning", "--user_agent is not used: the CA is told this program's own name")
    given.pop("tos_sha256")
    if server is not None and (host := urlsplit(server).netloc) in RETIRED:
        progress.line("warning", f"{host} is switched off: {RETIRED[host]} is asked instead")
        server = RETIRED[host]
    given |= {"ca": server, "key_type": size and f"rsa{size}", "preferred_chain": str(chain) if chain else None}
    # The lowest layer: simp_le's own kind of key, and its consent.
    defaults = {"key_type": "rsa4096", "agree_tos": True}
    return table.read(("flag", given), *flags.surroundings().layers(config), ("default", defaults))


def _names(vhosts: tuple[str, ...], default_root: str | None) -> list[tuple[str, Path]]:
    if not vhosts:
        raise ConfigurationError("no name was given", hint="name each with -d, for example -d example.com:/var/www/html")
    named = [(name, root or default_root) for name, _, root in (vhost.partition(":") for vhost in vhosts)]
    if rootless := [name for name, root in named if not root]:
        raise ConfigurationError(
            f"which folder is {', '.join(rootless)} served from?",
            hint="say it with --default_root, or for each name: -d example.com:/var/www/html",
        )
    return [(name, Path(root)) for name, root in named if root]


def _issue(job: Job, options: Options, progress: Progress, as_json: bool) -> int:
    from acme_middleware.issuance import simp_le as work

    around = flags.surroundings()

    def listener(event: events.Event) -> None:
        around.listener(event)
        progress(event)

    done = work.simp_le(job, options, listener)
    if done is None:
        if as_json:
            print_json({"action": "not due", "files": []})
        progress.line("not due", "the certificate that is here is good for long enough")
        raise NotNeeded(NO_RENEWAL)
    if as_json:
        action = "issued" if done.issued else "written"
        print_json({"action": action, "files": done.files, "names": done.names, "not_after": plain(done.not_after)})
    else:
        progress.line("issued" if done.issued else "there was", f"{', '.join(done.names)}, until {done.not_after:%Y-%m-%d}")
        progress.line("written", " ".join(done.files) or "by another process, just now")
    return 0


def _revoke(job: Job, options: Options, as_json: bool) -> int:
    from acme_middleware.issuance import simp_le as work

    done = work.revoke(job, options)
    if as_json:
        print_json({"action": "already revoked" if done.already else "revoked", **done._asdict()})
    else:
        click.echo(f"  revoked     {', '.join(done.names)}: serial {done.serial} of {done.ca}")
    return 0
