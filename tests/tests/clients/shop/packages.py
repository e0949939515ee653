"""Where packages are published to: what is large in them is taken out and noted."""

import base64
import io
import json
import tarfile
import xmlrpc.client
import zipfile

from aiohttp import web
from arrivals import Digest, note

crates = {}


def packed(content):
    """The file `bulk` of a gzipped tar."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        member = next(member for member in tar if member.name.endswith("/bulk"))
        return Digest(tar.extractfile(member).read())


async def python(request):
    form = await request.post()
    with zipfile.ZipFile(form["content"].file) as wheel:
        note(request.path, Digest(wheel.read("bulk")))
    return web.Response()


async def search(_request):
    """XML-RPC, as `pip search` speaks it."""
    hit = {"name": "hello-shop", "summary": "says hello", "versions": ["1.0"]}
    return web.Response(text=xmlrpc.client.dumps(([hit],), methodresponse=True), content_type="text/xml")


async def npm(request):
    (attachment,) = (await request.json())["_attachments"].values()
    note(request.path, packed(base64.b64decode(attachment["data"])))
    return web.json_response({"ok": True})


async def audit(_request):
    """No package is known to be bad."""
    return web.json_response({})


async def cargo(request):
    """Two lengths, each before its bytes: what the package is, and the package."""
    body = await request.read()
    after = 4 + int.from_bytes(body[:4], "little")
    about, content = json.loads(body[4:after]), body[after + 4 :]
    digest = Digest(content)
    note(request.path, packed(content))
    line = {"name": about["name"], "vers": about["vers"], "deps": [], "features": {}, "yanked": False}
    crates[about["name"]] = json.dumps(line | {"cksum": digest.told()["sha256"]})
    return web.json_response({"warnings": {"invalid_categories": [], "invalid_badges": [], "other": []}})


async def index(request):
    """cargo waits until what it published is there."""
    name = request.match_info["name"]
    return web.Response(text=crates[name] + "\n") if name in crates else web.Response(status=404)


ROUTES = [
    web.post("/pypi/legacy/", python),
    web.post("/pypi/search", search),
    web.put("/npm/fresh-shop", npm),
    web.post("/npm/-/npm/v1/security/advisories/bulk", audit),
    web.put("/cargo/api/v1/crates/new", cargo),
    web.get("/cargo/index/fr/es/{name}", index),
]
