import requests

from shop import AT, BULK, POSTED, digest, tell

tell("get", requests.get(f"{AT}/get").text)
tell("post", requests.post(f"{AT}/post", data=POSTED).text)
tell("redirect", requests.get(f"{AT}/redirect").text)
with requests.get(f"{AT}/download", stream=True) as answer:
    tell("download", digest(answer.iter_content(1 << 18)))
with open(BULK, "rb") as bulk:
    tell("upload", requests.put(f"{AT}/upload", data=bulk).text)
with requests.Session() as session:
    form = session.post(f"{AT}/own", files={"file": ("a.txt", b"hello")})
    again = [session.get(f"{AT}/own?page={page}").json()["credential"] for page in range(3)]
    tell("own", f"{form.json()['credential']} {again}")
