import ssl
import urllib.request

from shop import AT, BULK, POSTED, digest, tell


# As strict as Python is by itself from 3.13 on.
context = ssl.create_default_context()
context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN


def ask(path, **more):
    return urllib.request.urlopen(urllib.request.Request(f"{AT}/{path}", **more), context=context)


tell("get", ask("get").read().decode())
tell("post", ask("post", data=POSTED).read().decode())
tell("redirect", ask("redirect").read().decode())
tell("download", digest(iter(lambda a=ask("download"): a.read(1 << 18), b"")))
with open(BULK, "rb") as bulk:
    tell("upload", ask("upload", data=bulk, method="PUT").read().decode())
tell("own", ask("own", method="DELETE").read().decode())
