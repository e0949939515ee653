from anthropic import Anthropic

from shop import AT, BASE, BULK, KEY, POSTED, digest, tell

client = Anthropic(base_url=f"{BASE}/anthropic", auth_token=KEY)
# The client's own transport, for what are no messages.
plain = client._client
tell("get", plain.get(f"{AT}/get").text)
tell("post", plain.post(f"{AT}/post", content=POSTED).text)
tell("redirect", plain.get(f"{AT}/redirect").text)
with plain.stream("GET", f"{AT}/download") as answer:
    tell("download", digest(answer.iter_bytes()))
with open(BULK, "rb") as bulk:
    tell("upload", plain.put(f"{AT}/upload", content=bulk.read(), timeout=120).text)
question = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
whole = client.messages.create(**question).content[0].text
with client.messages.stream(**question) as stream:
    pieces = list(stream.text_stream)
tell("own", f"{whole} {pieces}")
