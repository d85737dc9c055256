"""Takes mails (port 2525), and webhooks and Slack's messages (8080), for docker-compose.dev.yaml and docker-compose.test.yaml.

Prints a line for each: its kind, the notification's id, and what it says. A GET shows all of them.

  sink.py            serves
  sink.py --check    says by its exit code whether it does
"""

import json
import re
import socket
import socketserver
import sys
import threading
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

received = []
# What is told at the same time has lines of its own.
printing = threading.Lock()


def take(kind, text, said):
    found = re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text)
    line = f"{kind} {found.group() if found else '-'} {said}"
    with printing:
        received.append(line)
        print(line, flush=True)


class Web(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        news = json.loads(body)
        if self.path == "/slack":
            take("slack", body, news["text"])
        else:
            take("webhook", self.headers.get("Idempotency-Key", ""), f"{news['status']} {news['alert_name']}")
        self.answer("ok")

    def do_GET(self):
        self.answer("".join(f"{line}\n" for line in received))

    def answer(self, text):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


class Mail(socketserver.StreamRequestHandler):
    def answer(self, text):
        self.wfile.write(text.encode() + b"\r\n")

    def handle(self):
        self.answer("220 sink")
        for line in self.rfile:
            verb = line[:4].upper().strip()
            if verb == b"DATA":
                self.answer("354 go on")
                mail = message_from_bytes(b"".join(iter(self.rfile.readline, b".\r\n")), policy=policy.default)
                take("mail", mail["Message-ID"], mail["Subject"])
                self.answer("250 taken")
            elif verb == b"QUIT":
                self.answer("221 bye")
                return
            else:
                self.answer("250 sink")


class Mails(socketserver.ThreadingTCPServer):
    daemon_threads = True


if sys.argv[1:] == ["--check"]:
    socket.create_connection(("127.0.0.1", 8080), timeout=2).close()
    with socket.create_connection(("127.0.0.1", 2525), timeout=2) as mail:
        # To go without having read it would be an error there.
        mail.recv(64)
else:
    threading.Thread(target=Mails(("", 2525), Mail).serve_forever, daemon=True).start()
    ThreadingHTTPServer(("", 8080), Web).serve_forever()
