"""
Events of :mod:`acme_middleware.events` as Django signals.

    @receiver(acme_event, sender=Issued)
    def tell_the_team(sender, event, **kwargs): ...

The sender is the event's class. A receiver runs in the process that issues, at once: keep it quick. What it raises is logged
and does not stop the work.
"""

from __future__ import annotations

import logging

from django.dispatch import Signal

from acme_middleware import events
from acme_middleware.events import Event

logger = logging.getLogger("acme_middleware.django")

acme_event = Signal()
"""Sent for every event. ``sender``: the event's class; ``event``: the event."""


def tell(event: Event) -> None:
    """The listener that the commands and in-process renewal subscribe: the log, then the receivers."""
    events.log(event)
    relay(event)


def relay(event: Event) -> None:
    """Send an event to the receivers of :data:`acme_event`."""
    for receiver, answer in acme_event.send_robust(sender=type(event), event=event):
        if isinstance(answer, Exception):
            logger.error("receiver %r of %s failed", receiver, type(event).__name__, exc_info=answer)
