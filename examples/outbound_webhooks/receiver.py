"""A receiver of Laneway's webhooks: verifies each, drops repeats, answers 204.

    RECEIVER_SECRET=whsec_… python examples/outbound_webhooks/receiver.py 9000
    RECEIVER_SECRET=whsec_… python examples/outbound_webhooks/receiver.py 9000 500 410

`RECEIVER_SECRET` is the value of OUTBOUND_WEBHOOK_SECRET. The port may be 0: then one is chosen, and told. What comes
after it are the answers to the first webhooks that it verified, to see what Laneway does with a receiver in trouble:
here 500 for the first, 410 for the second, and 204 from then on. A real receiver keeps the ids that it has seen in its
database, in the transaction in which it does the work.
"""

from __future__ import annotations

import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

SECRET = Webhook(os.environ["RECEIVER_SECRET"])
troubles = [int(status) for status in sys.argv[2:]]
seen: set[str] = set()


class Receiver(BaseHTTPRequestHandler):
    """One path for everything."""

    def do_POST(self) -> None:
        """Take one webhook in."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            event = SECRET.verify(body, {name.lower(): value for name, value in self.headers.items()})
        except WebhookVerificationError:
            self._answer(401, "a signature that is not right")
            return
        id = self.headers["webhook-id"]
        status = troubles.pop(0) if troubles else 204
        if status == 204 and id not in seen:
            seen.add(id)
            work(event)
        self._answer(status, f"{event['type']} {id}, signature verified")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what was answered is told by `_answer`."""

    def _answer(self, status: int, about: str) -> None:
        print(f"answered {status} to {about}", flush=True)
        self.send_response(status)
        self.end_headers()


def work(event: Any) -> None:
    """What a receiver is there for."""
    print("new:", event["type"], event["data"], flush=True)


if __name__ == "__main__":
    server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
