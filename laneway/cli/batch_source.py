"""What `laneway batches` asks of a platform: through an API, or of the project's platform in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from laneway.client import batch_calls

if TYPE_CHECKING:
    from laneway.cli.schedule_source import Sender
    from laneway.platform.platform import Platform
    from laneway.schemas.batch import BatchCancelResponse, BatchView

PAGE = 100


class BatchSource(Protocol):
    """The batches of a platform."""

    def listing(self, *, unfinished: bool, limit: int) -> list[BatchView]: ...

    def show(self, id: str) -> BatchView: ...

    def close(self, id: str) -> BatchView: ...

    def cancel(self, id: str) -> BatchCancelResponse:
        """Cancel a batch, up to the limit of one call."""
        ...


class ApiBatches:
    """Asks the API."""

    def __init__(self, api: Sender) -> None:
        self._api = api

    def listing(self, *, unfinished: bool, limit: int) -> list[BatchView]:
        found: list[BatchView] = []
        before = None
        while len(found) < limit:
            call = batch_calls.batches(unfinished=unfinished, before=before, limit=min(PAGE, limit - len(found)))
            page = self._api.send(call)
            found, before = found + page.batches, page.next
            if before is None:
                break
        return found

    def show(self, id: str) -> BatchView:
        return self._api.send(batch_calls.batch(id))

    def close(self, id: str) -> BatchView:
        return self._api.send(batch_calls.close_batch(id))

    def cancel(self, id: str) -> BatchCancelResponse:
        return self._api.send(batch_calls.cancel_batch(id))


class LocalBatches:
    """Asks the services of the platform."""

    def __init__(self, platform: Platform) -> None:
        self._batches = platform.batches

    def listing(self, *, unfinished: bool, limit: int) -> list[BatchView]:
        return self._batches.page(unfinished=unfinished, limit=limit)[0]

    def show(self, id: str) -> BatchView:
        return self._batches.view(id)

    def close(self, id: str) -> BatchView:
        return self._batches.close(id)

    def cancel(self, id: str) -> BatchCancelResponse:
        return self._batches.cancel(id)
