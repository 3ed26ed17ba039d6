"""
The verb ``print-config``: what to tell the programs around the app. Each program is a command of this group: those that run
the renewal are here, servers have modules of their own (``print_nginx``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from acme_middleware._text import has_password
from acme_middleware.cli import deploy, flags, timers
from acme_middleware.cli.invocation import Invocation
from acme_middleware.cli.lines import indented
from acme_middleware.cli.renew import OF_THE_PLACE
from acme_middleware.cli.report import print_json, reported
from acme_middleware.cli.surroundings import BY_ITSELF
from acme_middleware.cli.verbs import Verbs
from acme_middleware.errors import AcmeMiddlewareError, ConfigurationError
from acme_middleware.issuance.lineages import open_state
from acme_middleware.issuance.records import RenewalRecord, renewal_key
from acme_middleware.options import CONFIG_FILE, Options, setting_name
from acme_middleware.renewer import interval
from acme_middleware.stores import open_store

UNIT = "acme-renew"
WATCHING = "acme-deploy"
UNITS = Path("/etc/systemd/system")
SERVERS = ("nginx", "apache", "haproxy")


@click.group(
    "print-config",
    commands=Verbs(SERVERS, of="print"),
    short_help="Print what others need to be told: systemd, cron, kubernetes; nginx, apache, haproxy.",
)
def print_config() -> None:
    """
    Print configuration for the programs around the app.

    For what runs the renewal it is made for this very command: its interpreter, its project, its options. Flags that are given
    here are given to the command as well, but for a URL with a password, which others could read there. How often it runs
    follows from the shortest lifetime in the store: every 6 hours, every hour for certificates of 6 days.

    For a server in front of the app it is made for the names of the certificates: the CA's requests reach the app, everything
    else goes to HTTPS.
    """


user_flag = click.option("--user", help="Whose command it is.  [the owner of the store's folder, or you]")


@print_config.command(short_help="A service and a timer.")
@click.option("--unit", help=f"What to call the units.  [{UNIT}, with --deploy {WATCHING}]")
@click.option("--deploy", "watching", is_flag=True, help="For a host that deploys what others renew: `deploy --watch`.")
@click.option("--into", type=click.Path(path_type=Path, file_okay=False), help=f"Write them there: {UNITS}.")
@user_flag
@flags.of_table(only=OF_THE_PLACE)
@reported
def systemd(
    unit: str | None,
    watching: bool,
    into: Path | None,
    user: str | None,
    config: Path | None,
    as_json: bool,
    **given: Any,
) -> int:
    """
    Print a systemd service and its timer, or write them. With --deploy it is a service that runs on and on.

    Copy them to /etc/systemd/system where --into did not write them there. Then:

    \b
      systemctl daemon-reload && systemctl enable --now acme-renew.timer
    """
    unit = unit or (WATCHING if watching else UNIT)
    if watching:
        given = {option: value for option, value in given.items() if option in deploy.PLACE}
        job = _job(given, config, user, verb=("deploy", "--watch"))
        units = timers.watching_unit(job, unit)
    else:
        job = _job(given, config, user)
        units = timers.systemd_units(job, unit)
    _tell(job.missing, f"write {timers.lines_of_secrets(job)} into {timers.SECRETS}, owned by root, mode 0600")
    if into is not None:
        for name, text in units.items():
            try:
                (into / name).write_text(text)
            except OSError as error:
                raise ConfigurationError(
                    f"cannot write {into / name}: {error.strerror}", hint=_remedy(error, into), option="into"
                ) from error
    if as_json:
        print_json({"files": units})
        return 0
    if into is None:
        click.echo("\n".join(f"# {UNITS / name}\n{text}" for name, text in units.items()), nl=False)
    copying = (
        ""
        if into == UNITS
        else f"copy {'them' if into is None else ' and '.join(str(into / one) for one in units)} to {UNITS}, "
    )
    steps = f"{copying}`systemctl daemon-reload && systemctl enable --now {unit}.{'service' if watching else 'timer'}`"
    then = f"`journalctl -u {unit}`" if watching else f"`systemctl start {unit}` and `journalctl -u {unit}`"
    indented(f"next: {steps}; then {then} {'shows' if watching else 'show'} that it works", err=True)
    return 0


def _remedy(error: OSError, into: Path) -> str:
    if isinstance(error, PermissionError):
        remedy = "run it as root, or "
    else:
        remedy = "" if into.is_dir() else "make that folder first, or "
    return f"{remedy}leave --into out, and copy what is printed then"


@print_config.command(short_help="A line for a crontab.")
@user_flag
@flags.of_table(only=OF_THE_PLACE)
@reported
def cron(user: str | None, config: Path | None, as_json: bool, **given: Any) -> int:
    """Print a line for `crontab -e`. Its minute is this machine's own: not all machines ask the CA at once."""
    job = _job(given, config, user)
    if job.missing:
        file = (config or Path(os.environ.get("ACME_CONFIG") or CONFIG_FILE)).absolute()
        lines = " and ".join(f'`{option} = "..."`' for option in job.missing)
        _tell(job.missing, f"write {lines} into {file}, owned by {job.user}, mode 0600")
        if config is None:  # a file that is named must be there: without it another store would be renewed, and nobody told
            job = replace(job, words=[*job.words, "--config", str(file)])
    line = timers.cron_line(job)
    if as_json:
        print_json({"files": {"crontab": line}})
    else:
        click.echo(line, nl=False)
    return 0


@print_config.command(short_help="A CronJob.")
@click.option("--name", default=UNIT, show_default=True, help="What to call it.")
@click.option("--image", default="registry.example/app:latest", show_default=True, help="The image of your app.")
@click.option("--secret", default="acme-middleware", show_default=True, help="The Secret whose entries are its environment.")
@flags.of_table(only=OF_THE_PLACE)
@reported
def kubernetes(name: str, image: str, secret: str, config: Path | None, as_json: bool, **given: Any) -> int:
    """Print a CronJob for Kubernetes. The store must be one that the app's pods share: a database, or a volume."""
    job = _job(given, config, None)
    _tell(job.missing, f"have it in the Secret {secret}")
    text = timers.cron_job(job, name=name, image=image, secret=secret)
    if as_json:
        print_json({"files": {f"{name}.yaml": text}})
    else:
        click.echo(text, nl=False)
    return 0


def _job(given: dict[str, Any], config: Path | None, user: str | None, *, verb: Sequence[str] = ("renew",)) -> timers.Job:
    options = flags.load(given, config)
    invocation = flags.surroundings().invocation()
    missing = _left_out(given, config, invocation)
    words = [*verb]
    for option, value in given.items():
        if value not in (None, False) and not (option in flags.STORES and has_password(value)):
            words += [f"--{option.replace('_', '-')}", *([] if value is True else [str(value)])]
    if config is not None:
        words += ["--config", str(config.absolute())]
    paths = [path for path in (_folder(options), options.publish_dir and options.publish_dir.absolute()) if path]
    schedule = timers.Schedule.every(interval(_lifetimes(options)), f"{timers.machine()} {invocation.directory}")
    owner = user or _owner(paths, invocation.directory)
    specs = dict.fromkeys([*options.deploy, *(spec for one in options.certificates for spec in one.deploy or ())])
    # Where deployers write, the unit must let them; hooks and commands may do anything.
    paths += [Path(spec.partition(":")[2].partition("?")[0]) for spec in specs if spec.startswith(("files:/", "haproxy:/"))]
    confined = not any(spec.startswith(("command:", "hooks:")) for spec in specs)
    for_root = [spec for spec in specs if spec.startswith(("nginx:", "systemd:"))]
    if for_root and owner != "root":
        click.echo(f"warning: {', '.join(for_root)}: {owner} needs a right that usually only root has: --user root", err=True)
    return timers.Job(invocation, words, schedule, owner, paths, confined, missing)


def _left_out(given: dict[str, Any], config: Path | None, invocation: Invocation) -> list[str]:
    """The URLs of stores that are not printed, since each has a password, and that are nowhere else for the command to find."""
    around = flags.surroundings()
    kept = [layer for source, layer in around.layers(config, secret_files=False) if source != "environment"]
    missing = []
    for option in sorted(flags.STORES):
        url = given.get(option) or invocation.left_out.get(setting_name(option)) or ""
        if has_password(url) and not any(layer.get(option) == url for layer in kept):
            missing.append(option)
    if around is BY_ITSELF:
        return missing
    _tell(missing, "have it in the settings of the app")
    return []


def _tell(missing: Sequence[str], remedy: str) -> None:
    if missing:
        names = " and ".join(map(setting_name, missing))
        click.echo(f"warning: {names} left out, since others could read the password in it: {remedy}", err=True)


def _lifetimes(options: Options) -> list[timedelta]:
    """Of the certificates there are; a store that cannot be read now is no reason to print nothing."""
    found = []
    try:
        for key, record in open_state(options, writable=None).scan(renewal_key("")):
            try:
                known = RenewalRecord.decode(key, record.value, record.version)
            except AcmeMiddlewareError:
                continue  # `status` speaks of it
            found.append(known.not_after - known.not_before)
    except AcmeMiddlewareError as error:
        click.echo(f"warning: the store cannot be read, so the usual lifetimes are taken: {error}", err=True)
    return found


def _folder(options: Options) -> Path | None:
    """The folder of a store in files."""
    store = options.store
    if isinstance(store, os.PathLike):
        return Path(store).absolute()
    if isinstance(store, str) and store.startswith("file:"):
        path: Path = getattr(open_store(store), "path", Path())
        return path.absolute()
    return None


def _owner(paths: list[Path], project: Path) -> str:
    import pwd  # which Windows lacks

    # Units are often printed by root, for a site that is somebody else's.
    there = [path for path in (*paths, *([] if os.getuid() else [project])) if path.exists()]
    uid = there[0].stat().st_uid if there else os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
