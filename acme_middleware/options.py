"""
The option table: every option there is, once.

Command-line flags, environment variables, TOML keys, Django and Flask settings and the documentation are all read from the
fields of :class:`Options`: the field ``ca_bundle`` is the flag ``--ca-bundle``, the variable and setting ``ACME_CA_BUNDLE``
and the TOML key ``ca_bundle``.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from acme_middleware import declared, encryption_keys
from acme_middleware import option_kinds as kinds
from acme_middleware.declared import Declared
from acme_middleware.encryption_keys import EncryptionKeys
from acme_middleware.errors import ConfigurationError

PREFIX = "ACME_"
CONFIG_FILE = "/etc/acme-middleware.toml"

_key_type = kinds.one_of("ec256", "ec384", "rsa2048", "rsa3072", "rsa4096")


def _certificates(value: Any) -> tuple[Declared, ...]:
    return declared.read(value, key_type=_key_type, deploy=kinds.texts)


def _option(doc: str, parse: Callable[[Any], Any] = kinds.text, default: Any = None, **metadata: Any) -> Any:
    shown = not metadata.get("secret") and not metadata.get("url")
    return field(default=default, repr=shown, metadata={"doc": doc, "parse": parse, **metadata})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """
    The options of one command or adapter, checked when they are read (:func:`read`).

    None means that an option was not set and has no default of its own.
    """

    store: Any = _option(
        "Where accounts, certificates and leases are kept: a URL such as file:///var/lib/acme-middleware or django:",
        kinds.store,
        url=True,
    )
    challenge_store: Any = _option(
        "Where the tokens that the CA fetches are kept; by default the same place as STORE", kinds.store, url=True
    )
    ca: str = _option(
        "The certificate authority: letsencrypt, zerossl, google, sslcom, local, or the URL of an ACME directory; of several, "
        "the next is used where one has failed three times in a row",
        kinds.words,
        default="letsencrypt",
    )
    ca_bundle: Path | None = _option("A PEM file of roots to trust for the CA's own HTTPS, for a private CA", kinds.path)
    agree_tos: bool = _option("Agree to the CA's terms of service", kinds.boolean, default=False)
    email: str | None = _option("The account's contact address, sent to the CA", kinds.email)
    eab_kid: str | None = _option("External account binding: the key id that the CA gave you")
    eab_hmac_key: str | None = _option(
        "External account binding: the MAC key, base64url; no flag: set it where your other options are, or in a file",
        secret=True,
    )
    key_type: str = _option("The kind of key a certificate gets", _key_type, default="ec256")
    reuse_key: bool = _option("Keep the certificate's key when renewing", kinds.boolean, default=False)
    profile: str | None = _option("The CA's certificate profile to ask for, where the CA has it")
    require_profile: bool = _option("Refuse to issue where the CA does not have PROFILE", kinds.boolean, default=False)
    preferred_chain: str | None = _option(
        "Choose the chain whose topmost issuer has this common name, where the CA offers it; a number chooses by place: 1 is "
        "the first alternate chain"
    )
    self_check: str | None = _option(
        "Fetch each token through its public name before the CA does: `require` an answer, `warn` without one (the default), "
        "or `skip` (the default with the local CA)",
        kinds.one_of("require", "warn", "skip"),
    )
    self_check_via: str | None = _option(
        "HOST:PORT to connect to for the self-check, instead of the name's own addresses", kinds.host_port
    )
    on_unknown: str = _option(
        "A request for a token that is not ours: `pass` it to the app, or answer `404`",
        kinds.one_of("pass", "404"),
        default="pass",
    )
    publish_dir: Path | None = _option(
        "Where certificates are written as files: PUBLISH_DIR/<name>/current/fullchain.pem", kinds.path
    )
    owner: str | None = _option("The user that published files belong to, by name or number")
    group: str | None = _option("The group that published files belong to, by name or number; it may read the keys")
    deploy: tuple[str, ...] = _option(
        "What takes a certificate from PUBLISH_DIR to a server, after the first issue and after each renewal: a list of "
        "deployers such as nginx: or systemd:app.service?action=reload",
        kinds.texts,
        default=(),
        many=True,
    )
    certificates: tuple[Declared, ...] = _option(
        "The certificates that `renew` sees to, besides those there are: a table from the name of each to its `names` (by "
        "default that name), `profile`, `key_type` and `deploy`; no flag",
        _certificates,
        default=(),
        flag=False,
    )
    wait: float = _option(
        "Seconds to wait for another process that is issuing the same certificate", kinds.seconds, default=120.0
    )
    encryption_keys: EncryptionKeys | None = _option(
        "Keys that account, order and certificate records are encrypted with in the store: 32 bytes each in base64url; the "
        "first one encrypts, all decrypt; no flag: set it where your other options are, or in a file",
        encryption_keys.read,
        secret=True,
    )


def table() -> Iterator[Field[Any]]:
    """
    The options, in the order of the documentation.

    Metadata: ``doc``, ``parse``, ``flag``, ``many``, ``secret``; ``url``, which may have a password in it.
    """
    return iter(fields(Options))


def setting_name(option: str) -> str:
    """``ca_bundle`` -> ``ACME_CA_BUNDLE``."""
    return PREFIX + option.upper()


def read(*layers: tuple[str, Mapping[str, Any]]) -> Options:
    """
    Read options from layers, the first that sets an option winning.

    Args:
        layers: Pairs of a word for error messages (``"flag"``, ``"setting"``, ``"environment"``, ``"/etc/x.toml"``) and a
            mapping from option names in lower case to values. None and "" mean not set.

    Raises:
        ConfigurationError: an option that does not exist, or a value that it does not take; it names the option, the value
            (unless it is a secret), where it was set, and what is valid.
    """
    known = {option.name: option for option in table()}
    values: dict[str, Any] = {}
    for source, layer in layers:
        for name, value in layer.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                raise ConfigurationError(
                    f"there is no option {_spelled(source, name)}"
                    + (f"; did you mean {_spelled(source, near[0])}?" if near else ""),
                    hint="the options are: " + ", ".join(known),
                    option=name,
                )
            if value is None or value == "" or name in values:
                continue
            try:
                values[name] = known[name].metadata["parse"](value)
            except ValueError as error:
                shown = "" if known[name].metadata.get("secret") else f" is {value!r} but"
                raise ConfigurationError(
                    f"{_spelled(source, name)}{shown} {error}", hint=known[name].metadata["doc"], option=name
                ) from None
    return Options(**values)


def _spelled(source: str, name: str) -> str:
    if source == "flag":
        return "--" + name.replace("_", "-")
    if source == "argument":
        return name
    return setting_name(name) if source in ("setting", "environment") else f"{name} in {source}"


def layers_of_this_process(config: Path | None = None, *, secret_files: bool = True) -> list[tuple[str, Mapping[str, Any]]]:
    """Where no framework has settings: ACME_* in the environment, then the file ``config``, ACME_CONFIG or CONFIG_FILE."""
    if config is None and os.environ.get(PREFIX + "CONFIG"):
        config = Path(os.environ[PREFIX + "CONFIG"])
    if config is None and Path(CONFIG_FILE).exists():
        config = Path(CONFIG_FILE)
    environment = ("environment", from_environment(os.environ, secret_files=secret_files))
    return [environment] if config is None else [environment, (str(config), from_file(config))]


def of_this_process(**given: Any) -> Options:
    """
    Options for a program that has no framework's settings: those given, below them :func:`layers_of_this_process`.

    Raises:
        ConfigurationError: as :func:`read`.
    """
    return read(("argument", given), *layers_of_this_process())


def from_environment(environ: Mapping[str, str], *, secret_files: bool = True) -> dict[str, Any]:
    """The layer of ``ACME_*`` variables; ``ACME_X_FILE`` names a file that holds the secret ``ACME_X``. Others are not ours."""
    layer: dict[str, Any] = {}
    for option in table():
        name = setting_name(option.name)
        layer[option.name] = environ.get(name)
        if secret_files and option.metadata.get("secret") and not layer[option.name] and environ.get(name + "_FILE"):
            layer[option.name] = _read_secret(name + "_FILE", environ[name + "_FILE"])
    return layer


def from_settings(settings: Mapping[str, Any] | object, *, secret_files: bool = True) -> dict[str, Any]:
    """
    The layer of a framework's settings: a mapping, or an object with attributes.

    Settings that begin with ``ACME_`` and are no option are refused by :func:`read`: a misspelt option must not pass as unset.

    Args:
        settings: The settings.
        secret_files: Read the files that settings such as ACME_EAB_HMAC_KEY_FILE name. Only issuing needs what is in them, and
            a web worker may have no right to.

    Raises:
        ConfigurationError: such a file cannot be read.
    """
    if not isinstance(settings, Mapping):
        settings = {name: getattr(settings, name) for name in dir(settings) if name.startswith(PREFIX)}
    layer = {name[len(PREFIX) :].lower(): value for name, value in settings.items() if name.startswith(PREFIX)}
    for option in table():
        file = layer.pop(option.name + "_file", None) if option.metadata.get("secret") else None
        if file and secret_files and not layer.get(option.name):
            layer[option.name] = _read_secret(setting_name(option.name) + "_FILE", file)
    return layer


def from_file(path: Path) -> dict[str, Any]:
    """The layer of a TOML file. Raises ConfigurationError where it cannot be read or is no TOML."""
    import tomllib  # only commands read files: a web worker never pays for it

    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", hint="name another with --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} is no TOML: {error}", hint='an option is a line such as email = "ops@example.com"'
        ) from error


def _read_secret(name: str, path: Any) -> str:
    try:
        secret = Path(path).read_text().strip()
    except OSError as error:
        raise ConfigurationError(f"cannot read the file that {name} names: {path}: {error.strerror}", option=name) from error
    except UnicodeDecodeError:  # whose text would quote the secret
        raise ConfigurationError(f"the file that {name} names is no text: {path}", option=name) from None
    if not secret:  # which would count as not set, and keys would be kept as they are where they were to be encrypted
        raise ConfigurationError(f"the file that {name} names is empty: {path}", option=name)
    return secret
