"""The verbs ``account show``, ``update``, ``rollover`` and ``deactivate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from acme_middleware._text import printable
from acme_middleware.cli import flags
from acme_middleware.cli.asking import agreed
from acme_middleware.cli.lines import labelled
from acme_middleware.cli.report import plain, print_json, reported
from acme_middleware.errors import EXIT_FAILED, ConfigurationError

if TYPE_CHECKING:  # it brings the ACME client
    from acme_middleware.issuance.account_changes import Shown

WHICH = {"store", "ca", "ca_bundle", "eab_kid", "wait"}


@click.group(short_help="The account at the CA: show it, change its address or key, end it.")
def account() -> None:
    """
    The account at the CA. There is one for each CA (and external account binding); --ca says which is meant.
    """


@account.command(short_help="Show the account: its URL, status and contact address.")
@flags.of_table(only=WHICH)
@reported
def show(config: Path | None, as_json: bool, **given: Any) -> int:
    """
    Show the account as the CA and the store know it. Its key is not shown; its thumbprint is no secret.

    \b
    Exit codes: 0 shown; 1 the CA refused; 2 options, or the store has no account
    there; 75 the CA or the store does not answer.
    """
    options = flags.load(given, config)
    from acme_middleware.issuance import account_changes

    _print("shown", account_changes.show(options), as_json)
    return 0


@account.command(short_help="Change the contact address.")
@click.option("--no-email", is_flag=True, help="Have no contact address any more.")
@flags.of_table(only=WHICH | {"email", "agree_tos"})
@reported
def update(no_email: bool, config: Path | None, as_json: bool, **given: Any) -> int:
    """
    Change the contact address at the CA and in the store, to --email or what is configured as EMAIL.

    With --agree-tos the CA is told that its terms are agreed to. Where it wants newer ones agreed to, its refusal names the
    page to do that at. Some CAs, Let's Encrypt among them, keep no addresses: what they answer is shown.

    \b
    Exit codes: 0 changed; 1 the CA refused; 2 options, or the store has no
    account there; 75 try again later.
    """
    options = flags.load(given, config)
    if no_email and given.get("email"):
        raise ConfigurationError("--email and --no-email exclude each other", hint="leave one out", option="email")
    email = "" if no_email else options.email
    if email is None and not options.agree_tos:
        raise ConfigurationError(
            "there is nothing to change", hint="pass --email ADDRESS, --no-email or --agree-tos", option="email"
        )
    from acme_middleware.issuance import account_changes

    now = account_changes.update(options, email=email, agree_tos=options.agree_tos)
    _print("updated", now, as_json)
    if email and not now.contact and not as_json:
        click.echo("  note        the CA's answer has no address: it keeps none")
    return 0


@account.command(short_help="Give the account a new key.")
@flags.of_table(only=WHICH | {"challenge_store"})
@reported
def rollover(config: Path | None, as_json: bool, **given: Any) -> int:
    """
    Give the account a new key, for example because somebody may have seen the old one. Its URL and its certificates stay.

    The new key is saved before the CA hears of it. Wherever this is cut off, the account works, and the same command goes
    on. A command on another host that is issuing meanwhile fails, and goes on with its next run.

    \b
    Exit codes: 0 changed; 1 the CA refused, the old key stays; 2 options, or the
    store has no account there; 75 try again later.
    """
    options = flags.load(given, config)
    from acme_middleware.issuance import account_changes

    now = account_changes.rollover(options)
    _print("new key", now, as_json)
    if str(options.challenge_store).startswith("thumbprint:") and not as_json:
        labelled("next", f"the challenge store must become thumbprint:{now.thumbprint}, in every web worker")
    return 0


@account.command(short_help="End the account for ever.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@flags.of_table(only=WHICH)
@reported
def deactivate(yes: bool, config: Path | None, as_json: bool, **given: Any) -> int:
    """
    End the account at the CA for ever, and forget its key. Certificates stay valid until they expire.

    The next certificate that is issued registers a new account.

    \b
    Exit codes: 0 ended; 1 the answer was no, or the CA refused; 2 options, no
    account, or nobody to ask and no --yes; 75 try again later.
    """
    options = flags.load(given, config)
    if not agreed("End the account for ever", yes=yes, as_json=as_json):
        click.echo("  nothing was done")
        return EXIT_FAILED
    from acme_middleware.issuance import account_changes

    gone, ended = account_changes.deactivate(options)
    if as_json:
        print_json({"action": "deactivated" if ended else "forgotten", "ca": gone.ca, "url": gone.url})
    elif ended:
        click.echo(f"  ended       {gone.url} at {gone.ca}; its key is forgotten")
    else:
        click.echo(f"  forgotten   {gone.url}: {gone.ca} does not take its key any more, so it had been ended before")
    return 0


def _print(action: str, shown: Shown, as_json: bool) -> None:
    facts = plain(shown)
    assert isinstance(facts, dict)
    if as_json:
        print_json({"action": action, **facts})
        return
    lines = {
        "account": shown.url,
        "CA": f"{shown.ca}, {shown.directory}",
        "status": shown.status,
        "contact": ", ".join(entry.removeprefix("mailto:") for entry in shown.contact) or "none at the CA",
        "EAB": shown.eab_kid,
        "thumbprint": shown.thumbprint,
        "terms": shown.terms,
    }
    if action != "shown":
        click.echo(f"  {action}")
    for label, text in lines.items():
        if text:
            click.echo(f"  {label:<12}{printable(text)}")
