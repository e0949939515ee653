import urllib3

from shop import AT, BULK, POSTED, digest, tell

pool = urllib3.PoolManager()
tell("get", pool.request("GET", f"{AT}/get").data.decode())
tell("post", pool.request("POST", f"{AT}/post", body=POSTED).data.decode())
tell("redirect", pool.request("GET", f"{AT}/redirect").data.decode())
answer = pool.request("GET", f"{AT}/download", preload_content=False)
tell("download", digest(answer.stream(1 << 18)))
answer.release_conn()
with open(BULK, "rb") as bulk:
    tell("upload", pool.request("PUT", f"{AT}/upload", body=bulk).data.decode())
again = [pool.request("GET", f"{AT}/own?page={page}").json()["credential"] for page in range(3)]
tell("own", again)
