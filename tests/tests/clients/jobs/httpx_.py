import httpx

from shop import AT, BULK, POSTED, digest, tell


def bulk():
    with open(BULK, "rb") as file:
        while piece := file.read(1 << 18):
            yield piece


with httpx.Client(http2=True, follow_redirects=True, timeout=120) as client:
    tell("get", client.get(f"{AT}/get").text)
    tell("post", client.post(f"{AT}/post", content=POSTED).text)
    tell("redirect", client.get(f"{AT}/redirect").text)
    with client.stream("GET", f"{AT}/download") as answer:
        tell("download", digest(answer.iter_bytes()))
    tell("upload", client.put(f"{AT}/upload", content=bulk()).text)
    version = client.get(f"{AT}/own").http_version
with httpx.Client(http2=True) as client, client.stream("GET", f"{AT}/events".replace("/m/httpx", "")) as answer:
    lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
tell("own", f"{version}, {len(lines)} events")
