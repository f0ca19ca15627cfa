"""The messages that a channel has handed out and that are not settled, and how many more it may hold."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from kombu.transport import virtual

from laneway.engine.engine import Delivery
from laneway.engine.lease import HandOn
from laneway.engine.replies import LeaseStatus
from laneway.transport.celery_worker import running_task_ids
from laneway.transport.lease_keeper import LeaseKeeper

logger = logging.getLogger(__name__)
MAX_FETCH = 256


class Connection(Protocol):
    """What the QoS needs of the channel's transport."""

    lease_keeper: LeaseKeeper

    @property
    def will_reconnect(self) -> bool:
        """True when a worker has lost this connection, will reconnect, and keeps the messages that it holds."""
        ...


class HoldingChannel(Protocol):
    """What the QoS needs of its channel."""

    connection: Any  # a `Connection`; None once kombu has closed the channel

    def give_back(self, deliveries: list[Delivery]) -> None:
        """Release these messages."""
        ...


class QoS(virtual.QoS):
    """The messages that a channel has handed out. They can be settled after the channel is closed, too."""

    def __init__(self, channel: HoldingChannel, prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)
        self.held: dict[str, Delivery] = {}
        self._lease_keeper: LeaseKeeper = channel.connection.lease_keeper

    @property
    def room(self) -> int:
        """How many more messages the channel may hold."""
        if not self.can_consume() or self._lease_keeper.has_ack_backlog:
            return 0
        if "can_consume" in self.__dict__:  # Celery's worker_disable_prefetch decides before each message
            return 1
        estimate = self.can_consume_max_estimate()
        room = MAX_FETCH if estimate is None else min(estimate, MAX_FETCH)
        retained, prefetch_count = self._lease_keeper.retained_count, self._lease_keeper.prefetch_count
        if retained and prefetch_count and self.prefetch_count:
            room = max(0, min(room, prefetch_count - retained - len(self.held)))
        return room

    def remember_prefetch_count(self) -> None:
        """Remember the prefetch count: after a lost connection Celery uses another one for a while."""
        if self.prefetch_count and not self._lease_keeper.retained_count:
            self._lease_keeper.prefetch_count = self.prefetch_count

    def ack(self, delivery_tag: str) -> None:
        """Ack the message."""
        delivery = self._settle(delivery_tag)
        if delivery is not None:
            self._lease_keeper.ack(delivery)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """With `requeue`, return the message to its old position and count the delivery; else make it a dead letter."""
        delivery = self._settle(delivery_tag)
        if delivery is None:
            return
        if requeue:
            self._lease_keeper.release([delivery], counted=True)
        else:
            self._lease_keeper.bury(delivery, reason="rejected")

    def hand_on(self, delivery_tag: str, how: HandOn) -> bool:
        """Hand the message on to another worker. False: that took too long, and it has become a dead letter."""
        delivery = self._settle(delivery_tag)
        return delivery is None or self._lease_keeper.hand_on(delivery, how) is not LeaseStatus.BURIED

    def bury(self, delivery_tag: str, error: str, *, reason: str = "malformed") -> None:
        """Make a message a dead letter that says why: by default, because it cannot be read."""
        delivery = self._settle(delivery_tag)
        if delivery is not None:
            self._lease_keeper.bury(delivery, reason=reason, error=error)

    def drop_if_lost(self, delivery_tag: str) -> bool:
        """If the message's lease has expired, drop the message and return True: its task must not start."""
        delivery = self.held.get(delivery_tag)
        if delivery is None or self._lease_keeper.is_valid(delivery):
            return False
        self._settle(delivery_tag)
        logger.warning("The lease on message %s expired before its task started; the task is not run here", delivery.id)
        self._lease_keeper.release([delivery], counted=False)
        return True

    def is_cancelled(self, delivery_tag: str) -> bool:
        """True if the task of this message was cancelled while the message is held. Another message may be sound."""
        delivery = self.held.get(delivery_tag)
        return delivery is not None and self._lease_keeper.is_cancelled(delivery)

    def holds(self, delivery_tag: str, delivery: Delivery) -> bool:
        """True if the tag is that of this delivery."""
        return self.held.get(delivery_tag) is delivery

    def restore_unacked(self) -> list[Any]:
        """Give all messages back. If a worker lost this connection, give back only those that its pool drops."""
        self._flush()
        messages = dict(self._delivered or {})
        if self._delivered is not None:
            self._delivered.clear()
        connection: Connection | None = self.channel.connection
        if connection is None:
            return []
        if connection.will_reconnect:
            self._retain(messages)
            return []
        held, self.held = list(self.held.values()), {}
        self.channel.give_back(held)
        return []

    def _retain(self, messages: dict[str, Any]) -> None:
        running = running_task_ids()
        for tag, delivery in list(self.held.items()):
            if tag in messages:
                started = delivery.stored.message.task_id in running
                self._lease_keeper.retain(delivery, messages[tag], started=started)

    def _settle(self, delivery_tag: str) -> Delivery | None:
        """Remove a message from `held` and return it; None when it is not there."""
        delivery = self.held.pop(delivery_tag, None)
        super().ack(delivery_tag)
        return delivery
