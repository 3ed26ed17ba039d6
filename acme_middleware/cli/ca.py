"""The verb ``ca``."""

from __future__ import annotations

import threading
from pathlib import Path

import click

from acme_middleware import authorities
from acme_middleware.cli import flags
from acme_middleware.cli.lines import labelled
from acme_middleware.cli.report import Terminated, print_json, reported
from acme_middleware.errors import ConfigurationError

HERE = "127.0.0.1"


@click.command(short_help="Run a small CA on this machine, for development.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=authorities.LOCAL_PORT, show_default=True, help="Where to listen."
)
@click.option("--host", default=HERE, show_default=True, help="The address to listen at.")
@click.option("--expose", is_flag=True, help="Agree to listen at an address that others may reach.")
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="The folder of its keys and its root.  [~/.local/state/acme-middleware/local-ca]",
)
@click.option(
    "--resolve",
    multiple=True,
    metavar="NAME=ADDR:PORT",
    help="Where it finds a name; *= is for all others. May be repeated.  [*=127.0.0.1:8000]",
)
@reported
def ca(port: int, host: str, expose: bool, state: Path | None, resolve: tuple[str, ...], as_json: bool) -> int:
    """
    Run a certificate authority on this machine until Ctrl-C: a real one, strict about the protocol, that no browser trusts.

    It validates as any CA does, by fetching the token over HTTP, but finds each name where --resolve says. In another
    terminal run your app, and issue from it with --ca local; no other option is needed.
    """
    try:
        from acme_middleware.local_ca import LocalCA
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the local CA needs {error.name}", hint="pip install 'acme-middleware[local-ca]'", option="ca"
        ) from error

    folder = (state or authorities.local_state()).expanduser()
    # Nobody has to agree to anything: ACME_CA = "local" is the only setting that is needed.
    running = LocalCA(port=port, host=host, expose=expose, state=folder, resolve=_places(resolve), terms=False)
    try:
        running.start()
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen at {host} port {port}: {error.strerror or error}",
            hint="is one running already? --port chooses another port, --ca its URL",
            option="port",
        ) from error
    try:
        _introduce(running.directory_url, running.ca_bundle, running.port, as_json)
        threading.Event().wait()
    except (KeyboardInterrupt, Terminated):
        click.echo("", err=True)  # below the terminal's ^C
    finally:
        running.stop()
    return 0


def _places(resolve: tuple[str, ...]) -> dict[str, str]:
    places = {}
    for entry in resolve or ("*=127.0.0.1:8000",):
        name, equals, place = entry.partition("=")
        if not (name and equals and place):
            raise ConfigurationError(
                f"--resolve {entry} is not NAME=ADDR:PORT", hint="for example --resolve '*=127.0.0.1:8000'", option="resolve"
            )
        places[name] = place
    return places


def _introduce(directory: str, root: Path, port: int, as_json: bool) -> None:
    if as_json:
        print_json({"directory": directory, "root": str(root)})
        return
    known = port == authorities.LOCAL_PORT
    chosen = "--ca local" if known else f"--ca {directory} --ca-bundle {root}"
    click.echo(f"  directory   {directory}")
    click.echo(f"  root        {root}  (for curl --cacert and browsers; never install it system-wide)")
    labelled("next", f"`{flags.surroundings().issue_command} example.com {chosen}` in another terminal")
    click.echo("  stop        Ctrl-C")
