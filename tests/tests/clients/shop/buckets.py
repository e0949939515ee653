"""Places for objects: a bucket as S3 has them (path style), and Git LFS."""

import json

from aiohttp import web
from arrivals import Digest, note

objects = {}
parts = {}
# S3 moves askers to the region of a bucket once.
moved = set()


def whole(path, content):
    objects[path] = content
    note(path, Digest(content))
    return web.Response(headers={"ETag": '"1"'})


def xml(name, **fields):
    inner = "".join(f"<{key}>{value}</{key}>" for key, value in fields.items())
    return web.Response(text=f"<{name}>{inner}</{name}>", content_type="application/xml")


async def put(request):
    content = await request.read()
    if "partNumber" in request.query:
        parts[int(request.query["partNumber"])] = content
        return web.Response(headers={"ETag": f'"{request.query["partNumber"]}"'})
    return whole(request.path, content)


async def post(request):
    """An upload in parts begins, or is over."""
    if "uploads" in request.query:
        parts.clear()
        return xml("InitiateMultipartUploadResult", UploadId="1")
    whole(request.path, b"".join(parts[number] for number in sorted(parts)))
    return xml("CompleteMultipartUploadResult", ETag='"1"')


async def get(request):
    path = request.path
    if path.startswith("/s3/far/") and path not in moved:
        moved.add(path)
        return web.Response(status=301, headers={"x-amz-bucket-region": "elsewhere-1"})
    if path not in objects:
        return web.Response(status=404)
    content = objects[path]
    headers = {"ETag": '"1"', "Accept-Ranges": "bytes"}
    if "Range" not in request.headers:
        return web.Response(body=content, headers=headers)
    wanted = range(len(content))[request.http_range]
    headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{len(content)}"
    return web.Response(status=206, body=content[request.http_range], headers=headers)


async def batch(request):
    """Git LFS: where objects go to and come from."""
    asked = await request.json()
    base = f"https://{request.host}/lfs/objects/"
    action = asked["operation"]
    listed = []
    for item in asked["objects"]:
        key = "/lfs/objects/" + item["oid"]
        wanted = action == "download" or key not in objects
        actions = {action: {"href": base + item["oid"]}} if wanted else {}
        listed.append({"oid": item["oid"], "size": item["size"], "actions": actions})
    body = json.dumps({"transfer": "basic", "objects": listed})
    return web.Response(body=body, content_type="application/vnd.git-lfs+json")


async def locks(_request):
    return web.Response(status=404, text='{"message":"no locks here"}', content_type="application/vnd.git-lfs+json")


OBJECT = "/lfs/objects/{oid:[0-9a-f]{64}}"
ROUTES = [
    web.put("/s3/{key:.*}", put),
    web.post("/s3/{key:.*}", post),
    web.get("/s3/{key:.*}", get),
    web.put(OBJECT, put),
    web.get(OBJECT, get),
    web.post("/lfs/objects/batch", batch),
    web.route("*", "/lfs/locks{rest:.*}", locks),
]
