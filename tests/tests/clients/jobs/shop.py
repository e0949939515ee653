"""What the Python clients share: where the shop is, and how a job's result is told."""

import hashlib
import os

BASE = os.environ["SHOP"]
NAME = os.environ["CLIENT"]
BULK = os.environ["BULK"]
AT = f"{BASE}/m/{NAME}"
POSTED = f"posted by {NAME}".encode()
# Worth nothing: a placeholder, for clients that insist on a key.
KEY = os.environ["API_TOKEN"]


def tell(job, text):
    print(job, text, flush=True)


def digest(pieces):
    sha = hashlib.sha256()
    for piece in pieces:
        sha.update(piece)
    return sha.hexdigest()
