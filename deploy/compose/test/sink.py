"""Takes webhooks (8080) and mails (2525), and prints a line for each: its kind, and the notification's id."""

import re
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Webhooks(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        print("webhook", self.headers.get("Idempotency-Key", "-"), flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Mails(socketserver.StreamRequestHandler):
    def answer(self, text):
        self.wfile.write(text.encode() + b"\r\n")

    def handle(self):
        self.answer("220 sink")
        for line in self.rfile:
            verb = line[:4].upper().strip()
            if verb == b"DATA":
                self.answer("354 go on")
                text = b""
                for part in self.rfile:
                    if part == b".\r\n":
                        break
                    text += part
                found = re.search(rb"^Message-ID: <([^@>]+)", text, re.I | re.M)
                print("mail", found.group(1).decode() if found else "-", flush=True)
                self.answer("250 taken")
            elif verb == b"QUIT":
                self.answer("221 bye")
                return
            else:
                self.answer("250 sink")


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


threading.Thread(target=Server(("", 2525), Mails).serve_forever, daemon=True).start()
ThreadingHTTPServer(("", 8080), Webhooks).serve_forever()
