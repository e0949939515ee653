"""http.server with its files, which also says what a WSGI application would take for the path."""
import http.server
import os
import sys
import urllib.parse

root = sys.argv[1]


class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args):
        super().__init__(*args, directory=root)

    def end_headers(self):
        path = getattr(self, "path", "")
        taken = [
            self.translate_path(path).removeprefix(root) or "/",
            urllib.parse.unquote(path.split("?")[0], "iso-8859-1"),
            urllib.parse.unquote(urllib.parse.urlsplit(path).path if path.startswith("/") else path),
        ]
        self.send_header("X-Taken", " ".join(urllib.parse.quote(one, errors="replace") for one in taken))
        super().end_headers()

    def list_directory(self, path):
        self.send_error(404)

    def log_message(self, *args):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
