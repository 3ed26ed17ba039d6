"""What a timer needs to be told so that it renews: the texts of systemd units, of a cron line and of a Kubernetes CronJob."""

from __future__ import annotations

import hashlib
import json
import shlex
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from acme_middleware.cli.invocation import Invocation
from acme_middleware.errors import EXIT_TRY_LATER, ConfigurationError
from acme_middleware.options import setting_name

STEPS = (360, 180, 120, 60, 30, 20, 15, 10, 5)
"""Minutes between two runs that a calendar can say: divisors of a day or an hour."""

SECRETS = "/etc/acme-middleware.env"


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to run: every ``step`` minutes, at a time of this machine's own, so that not all machines come at once."""

    step: int
    offset: int

    @classmethod
    def every(cls, interval: timedelta, seed: str) -> Schedule:
        """The schedule that fits ``interval``; ``seed`` chooses the time."""
        step = next((step for step in STEPS if timedelta(minutes=step) <= interval), STEPS[-1])
        return cls(step, int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4]) % step)

    def __str__(self) -> str:
        hours = self.step // 60
        return "every hour" if hours == 1 else f"every {hours} hours" if hours else f"every {self.step} minutes"

    @property
    def calendar(self) -> str:
        """For ``OnCalendar=``."""
        hour, minute = divmod(self.offset, 60)
        return f"*-*-* *:{minute:02}/{self.step}:00" if self.step < 60 else f"*-*-* {hour:02}/{self.step // 60}:{minute:02}:00"

    @property
    def cron(self) -> str:
        """The five fields of a crontab."""
        hour, minute = divmod(self.offset, 60)
        if self.step < 60:
            return f"{minute}-59/{self.step} * * * *"
        return f"{minute} * * * *" if self.step == 60 else f"{minute} {hour}-23/{self.step // 60} * * *"


@dataclass(frozen=True, slots=True)
class Job:
    """
    What is to run.

    Attributes:
        invocation: The command up to the verb.
        words: The verb and its flags.
        schedule: When.
        user: Whose command it is.
        paths: What it writes to, as far as that is known.
        confined: Whether that is all that it may write to. What runs programs of others cannot know what they need.
        missing: Options that it needs and that no text here may have, since there is a password in each.
    """

    invocation: Invocation
    words: Sequence[str]
    schedule: Schedule
    user: str = ""
    paths: Sequence[Path] = field(default_factory=tuple)
    confined: bool = True
    missing: Sequence[str] = ()


def machine() -> str:
    """Something that stays the same on this machine, and differs on others."""
    try:
        return Path("/etc/machine-id").read_text().strip()
    except OSError:
        return str(uuid.getnode())


def systemd_units(job: Job, unit: str) -> dict[str, str]:
    """The service and the timer, by the names of their files."""
    lines = [
        *_unit("Renew the TLS certificates that are due"),
        "[Service]",
        "Type=oneshot",
        *_service(job),
        f"# {EXIT_TRY_LATER}: something must wait, and the next run comes by itself",
        f"SuccessExitStatus={EXIT_TRY_LATER}",
        "TimeoutStartSec=30min",
        *_confinement(job),
    ]
    timer = [
        "[Unit]",
        f"Description=Renew TLS certificates, {job.schedule}",
        "",
        "[Timer]",
        f"OnCalendar={job.schedule.calendar}",
        f"RandomizedDelaySec={max(1, job.schedule.step // 4)}min",
        "# run at once what was missed while the machine was off",
        "Persistent=true",
        "",
        "[Install]",
        "WantedBy=timers.target",
    ]
    return {f"{unit}.service": _text(lines), f"{unit}.timer": _text(timer)}


def watching_unit(job: Job, unit: str) -> dict[str, str]:
    """The service that follows the other hosts, by the name of its file."""
    lines = [
        *_unit("Publish and deploy the TLS certificates that other hosts renew"),
        "[Service]",
        *_service(job),
        "Restart=on-failure",
        "RestartSec=30",
        *_confinement(job),
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return {f"{unit}.service": _text(lines)}


def _unit(description: str) -> list[str]:
    return ["[Unit]", f"Description={description}", "Wants=network-online.target", "After=network-online.target", ""]


def lines_of_secrets(job: Job) -> str:
    """What must stand in the file of secrets."""
    return " and ".join(f"{setting_name(option)}=..." for option in job.missing)


def _service(job: Job) -> list[str]:
    invocation = job.invocation
    needed = f"must have {lines_of_secrets(job)}" if job.missing else "need not be there"
    return [
        f"User={job.user}",
        f"WorkingDirectory={_specifiers(str(invocation.directory))}",
        *(f"Environment={_quoted(f'{name}={value}')}" for name, value in invocation.environment.items()),
        f"# for what is secret, such as ACME_EAB_HMAC_KEY=...: owned by root, mode 0600; {needed}",
        # Without it, another store would be renewed, and nobody told.
        f"EnvironmentFile={'' if job.missing else '-'}{SECRETS}",
        "ExecStart=" + " ".join(_word(word) for word in [*invocation.words, *job.words]),
    ]


def _confinement(job: Job) -> list[str]:
    if not job.confined:
        return ["", "# not confined: DEPLOY runs programs, and only you know what those need"]
    invocation = job.invocation
    touched = [Path(invocation.words[0]), *(Path(word) for word in invocation.words if word.startswith("/")), *job.paths]
    return [
        "",
        "NoNewPrivileges=true",
        "ProtectSystem=full",
        *(f"ReadWritePaths={_quoted(f'-{path}')}" for path in job.paths if _below(path, "/etc", "/usr", "/boot")),
        *([] if _any_below([*touched, invocation.directory], "/home", "/root", "/run/user") else ["ProtectHome=true"]),
        *([] if _any_below([*touched, invocation.directory], "/tmp", "/var/tmp") else ["PrivateTmp=true"]),  # noqa: S108
        "PrivateDevices=true",
        "ProtectKernelTunables=true",
        "ProtectKernelModules=true",
        "ProtectControlGroups=true",
        "RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6",
        "RestrictNamespaces=true",
        "RestrictRealtime=true",
        "RestrictSUIDSGID=true",
        "LockPersonality=true",
        "SystemCallArchitectures=native",
    ]


def cron_line(job: Job) -> str:
    """
    The line for ``crontab -e``, below comments.

    Raises:
        ConfigurationError: a word has a line break, which no crontab can hold.
    """
    invocation = job.invocation
    environment = [f"{name}={shlex.quote(value)}" for name, value in invocation.environment.items()]
    words = [shlex.quote(word) for word in [*invocation.words, *job.words]]
    command = f"cd {shlex.quote(str(invocation.directory))} && " + " ".join([*environment, *words])
    if "\n" in command:
        raise ConfigurationError("an option has a line break in it, and a crontab's lines have none", hint="set it in a file")
    return _text(
        [
            f"# for `crontab -e` of the user {job.user}; {job.schedule}, at a time of this machine's own",
            "# errors come by mail; what went well is not worth one",
            f"{job.schedule.cron} {_percent(command)} > /dev/null",
        ]
    )


def cron_job(job: Job, *, name: str, image: str, secret: str) -> str:
    """The CronJob, as YAML."""
    command = " ".join(shlex.quote(word) for word in [*job.invocation.elsewhere, *job.words])
    try_later = f"{command} || {{ code=$?; [ $code -eq {EXIT_TRY_LATER} ] || exit $code; }}"
    return _text(
        [
            "apiVersion: batch/v1",
            "kind: CronJob",
            "metadata:",
            f"  name: {json.dumps(name)}",
            "spec:",
            f"  schedule: {json.dumps(job.schedule.cron)}  # {job.schedule}",
            '  timeZone: "Etc/UTC"',
            "  concurrencyPolicy: Forbid",
            "  startingDeadlineSeconds: 3600",
            "  successfulJobsHistoryLimit: 1",
            "  failedJobsHistoryLimit: 3",
            "  jobTemplate:",
            "    spec:",
            "      backoffLimit: 0  # the next run tries again; how soon a name may be tried is in the store",
            "      activeDeadlineSeconds: 1800",
            "      ttlSecondsAfterFinished: 86400",
            "      template:",
            "        spec:",
            "          restartPolicy: Never",
            "          automountServiceAccountToken: false",
            "          securityContext:",
            "            runAsNonRoot: true",
            "            seccompProfile:",
            "              type: RuntimeDefault",
            "          containers:",
            "            - name: renew",
            "              # the image of the app, whose store must be one that all its pods share",
            f"              image: {json.dumps(image)}",
            f"              # {EXIT_TRY_LATER} says that something must wait: that is no failed job",
            '              command: ["/bin/sh", "-c"]',
            f"              args: [{json.dumps(try_later)}]",
            "              envFrom:",
            "                - secretRef:",
            f"                    name: {json.dumps(secret)}",
            "              securityContext:",
            "                allowPrivilegeEscalation: false",
            "                capabilities:",
            '                  drop: ["ALL"]',
        ]
    )


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """A word in systemd's double quotes (systemd.syntax(7), "Quoting")."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{_specifiers(escaped)}"'


def _word(text: str) -> str:
    """A word of ExecStart=; there a dollar sign would begin a variable."""
    plain = text and all(character.isalnum() or character in "-_./:=@+," for character in text)
    return text if plain else _quoted(text).replace("$", "$$")


def _percent(command: str) -> str:
    """crontab(5): an unescaped % is a line break."""
    return command.replace("%", "\\%")


def _below(path: Path, *folders: str) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _any_below(paths: Iterable[Path], *folders: str) -> bool:
    return any(_below(path, *folders) for path in paths)
