from anthropic import Anthropic
from httpx2 import Response

from shop import AT, BASE, BULK, KEY, POSTED, digest, tell

client = Anthropic(base_url=f"{BASE}/anthropic", auth_token=KEY)
# Its own requests, for what is no messages.
tell("get", client.get(f"{AT}/get", cast_to=Response).text)
tell("post", client.post(f"{AT}/post", cast_to=Response, content=POSTED).text)
tell("redirect", client.get(f"{AT}/redirect", cast_to=Response).text)
tell("download", digest([client.get(f"{AT}/download", cast_to=Response).content]))
with open(BULK, "rb") as bulk:
    tell("upload", client.put(f"{AT}/upload", cast_to=Response, content=bulk.read()).text)
question = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
whole = client.messages.create(**question).content[0].text
with client.messages.stream(**question) as stream:
    pieces = list(stream.text_stream)
tell("own", f"{whole} {pieces}")
