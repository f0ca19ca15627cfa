"""A receiver of Laneway's webhooks: verifies each, drops repeats, answers 204.

    RECEIVER_SECRET=whsec_… python examples/callbacks/receiver.py 9000

`RECEIVER_SECRET` is the value of OUTBOUND_WEBHOOK_SECRET. A real receiver keeps the ids that it has seen in its
database, in the transaction in which it does the work.
"""

from __future__ import annotations

import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

SECRET = Webhook(os.environ["RECEIVER_SECRET"])
seen: set[str] = set()


class Receiver(BaseHTTPRequestHandler):
    """One path for everything."""

    def do_POST(self) -> None:
        """Take one webhook in."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            event = SECRET.verify(body, {name.lower(): value for name, value in self.headers.items()})
        except WebhookVerificationError:
            self.send_response(401)
            self.end_headers()
            return
        if self.headers["webhook-id"] not in seen:
            seen.add(self.headers["webhook-id"])
            print(event["type"], event["data"], flush=True)
        self.send_response(204)
        self.end_headers()


if __name__ == "__main__":
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
