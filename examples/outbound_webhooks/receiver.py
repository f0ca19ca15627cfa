"""A receiver of Laneway's webhooks: it verifies each one, ignores repeats, and answers 204.

    RECEIVER_SECRET=whsec_… python examples/outbound_webhooks/receiver.py 9000
    RECEIVER_SECRET=whsec_… python examples/outbound_webhooks/receiver.py 9000 500 410

`RECEIVER_SECRET` is the secret that `laneway callbacks register NAME URL` printed. With port 0 the system chooses a
port, and the receiver prints it. Further arguments are the statuses of the first verified webhooks, to show how Laneway
treats a receiver with errors: here 500 for the first, 410 for the second, and 204 from then on. A real receiver stores
the ids of known webhooks in its database, in the same transaction as its work.
"""

from __future__ import annotations

import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

SECRET = Webhook(os.environ["RECEIVER_SECRET"])
first_statuses = [int(status) for status in sys.argv[2:]]
known_ids: set[str] = set()


class Receiver(BaseHTTPRequestHandler):
    """Accepts webhooks on any path."""

    def do_POST(self) -> None:
        """Verify one webhook and process it if it is new."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            event = SECRET.verify(body, {name.lower(): value for name, value in self.headers.items()})
        except WebhookVerificationError:
            self._answer(401, "an invalid signature")
            return
        id = self.headers["webhook-id"]
        status = first_statuses.pop(0) if first_statuses else 204
        if status == 204 and id not in known_ids:
            known_ids.add(id)
            process(event)
        self._answer(status, f"{event['type']} {id}, signature verified")

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: `_answer` prints each answer."""

    def _answer(self, status: int, about: str) -> None:
        print(f"answered {status} to {about}", flush=True)
        self.send_response(status)
        self.end_headers()


def process(event: Any) -> None:
    """Process a new event; a real receiver does its work here."""
    print("new:", event["type"], event["data"], flush=True)


if __name__ == "__main__":
    server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
