"""Takes the samples of the queues in a process of the API, so that they go on while no worker runs."""

from __future__ import annotations

from threading import Event, Thread
from typing import Final

from laneway.platform.db.wait_limit import limit_waits
from laneway.platform.errors import PlatformError
from laneway.platform.history.queue_samples import QueueSamples
from laneway.platform.logging import logger

log = logger(__name__)

LOOK_EVERY: Final = 5.0
"""Seconds between two looks whether a minute is over."""
WAIT_SECONDS: Final = 5.0
"""Most seconds that a sample waits for the database."""


class Sampler(Thread):
    """Stores the sample of each minute, unless another process has done so."""

    def __init__(self, samples: QueueSamples) -> None:
        super().__init__(name="laneway-samples", daemon=True)
        self._samples, self._ended = samples, Event()

    def run(self) -> None:
        while not self._ended.wait(LOOK_EVERY):
            try:
                with limit_waits(WAIT_SECONDS):
                    self._samples.take_if_due()
            except PlatformError as error:
                log.debug("no sample of the queues now", error=str(error))
            except Exception:
                log.exception("the sample of the queues failed unexpectedly")

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self.join(timeout=5)
