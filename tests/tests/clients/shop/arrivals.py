"""What arrived, digested here: the judge believes this, not what clients say of it."""

import hashlib
import json
import sys


class Digest:
    """Of bytes as they come."""

    def __init__(self, *pieces):
        self.sha, self.length = hashlib.sha256(), 0
        for piece in pieces:
            self.add(piece)

    def add(self, piece):
        self.sha.update(piece)
        self.length += len(piece)

    def told(self):
        return {"sha256": self.sha.hexdigest(), "length": self.length}


def note(path, digest):
    """Something large came to `path`."""
    with open(sys.argv[3], "a") as file:
        print(json.dumps({"path": path} | digest.told()), file=file)
