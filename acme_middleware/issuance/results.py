"""What became of a certificate, or of the certificates of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from acme_middleware.errors import EXIT_FAILED, EXIT_TRY_LATER, AcmeMiddlewareError, DeployFailed
from acme_middleware.issuance.records import RenewalRecord


class Action(Enum):
    """What a run came to."""

    ISSUED = "issued"
    RENEWED = "renewed"
    NOT_DUE = "not due"
    BY_ANOTHER = "issued by another process"


class Outcome(NamedTuple):
    """
    The end of a run that went well.

    Attributes:
        published: The folder that the certificate's files are current in, None where no PUBLISH_DIR is set.
        reason: Why it was issued, in a few words; "" where it was not.
        undeployed: What deployers have failed at; the next run repeats it.
    """

    action: Action
    record: RenewalRecord
    published: Path | None
    reason: str = ""
    undeployed: tuple[DeployFailed, ...] = ()


class Result(NamedTuple):
    """
    What became of one certificate.

    Attributes:
        action: "renewed", "issued", "not due", "must wait", "in progress" (by another process), "failed", or "damaged": its
            record cannot be read.
        record: What is known of the certificate now, None for nothing.
        reason: Why, in a few words; "" where there is nothing to say.
        error: What went wrong.
        next_try: When it is tried again, where that is known.
    """

    name: str
    action: str
    record: RenewalRecord | None
    reason: str = ""
    error: AcmeMiddlewareError | None = None
    next_try: datetime | None = None


def exit_code(results: Sequence[Result]) -> int:
    """1 if a certificate failed in this run, else 75 if one that is due must wait, else 0."""
    actions = {result.action for result in results}
    if actions & {"failed", "damaged"}:
        return EXIT_FAILED
    return EXIT_TRY_LATER if "must wait" in actions else 0
