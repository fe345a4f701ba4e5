"""A web app as people write them: it listens where HOST and PORT say, and ends on SIGTERM."""

import http.server
import json
import os
import signal
import threading


class Hello(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = json.dumps(
            {
                "greeting": os.environ.get("GREETING", "Hi"),
                "path": self.path,
                "instance": os.environ.get("PM3_INSTANCE"),
                "client": self.headers.get("P-Ip"),
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Hello)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print("listening on", os.environ["LISTEN"], flush=True)
server.serve_forever()
