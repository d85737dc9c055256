#!/usr/bin/env python3
"""Receives SQL Sentinel's webhooks and prints one line for each notification.

  webhook_receiver.py [PORT]    listens on 127.0.0.1, port 8088 if none is given; 0 lets the system choose

A notification can arrive twice, when the sender could not know whether the first attempt had arrived. It then has the
same `Idempotency-Key`, by which a receiver tells that it knows it already.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

known = set()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(204)
        self.end_headers()
        key = self.headers.get("Idempotency-Key", "")
        if key in known:
            return
        known.add(key)
        news = json.loads(body)
        print("{status}  {alert_name}: {description}  (actual {actual_value}, threshold {threshold})".format(
            **{"actual_value": None, "threshold": None, "description": "", **news}), flush=True)

    def log_message(self, *_):
        pass  # one line for each notification, and no other


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8088), Receiver)
    print(f"listening on http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()
