"""Makes small registries of files below a directory: an index for pip and uv, npm, cargo and apt, with one package each."""

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile

WORDS = "hello from the shop"


def tree(files):
    """A gzipped tar of names and texts."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text), 0o644
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def write(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())


def python(root):
    name = "hello_shop-1.0-py3-none-any.whl"
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        info = "hello_shop-1.0.dist-info"
        archive.writestr("hello_shop.py", f"WORDS = {WORDS!r}\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: hello-shop\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: shop\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    content = wheel.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    write(f"{root}/pypi/files/{name}", content)
    write(f"{root}/pypi/simple/hello-shop/index.html", f'<a href="/pypi/files/{name}#sha256={digest}">{name}</a>')


def npm(root, url):
    manifest = {"name": "hello-shop", "version": "1.0.0", "main": "index.js"}
    content = tree({"package/package.json": json.dumps(manifest), "package/index.js": f"module.exports = {WORDS!r};\n"})
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    dist = {"tarball": f"{url}/npm/files/hello-shop-1.0.0.tgz", "integrity": integrity, "shasum": hashlib.sha1(content).hexdigest()}
    about = {"name": "hello-shop", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": manifest | {"dist": dist}}}
    write(f"{root}/npm/hello-shop", json.dumps(about))
    write(f"{root}/npm/files/hello-shop-1.0.0.tgz", content)


def cargo(root, url):
    manifest = '[package]\nname = "hello-shop"\nversion = "1.0.0"\nedition = "2021"\n'
    code = f'pub const WORDS: &str = "{WORDS}";\n'
    content = tree({"hello-shop-1.0.0/Cargo.toml": manifest, "hello-shop-1.0.0/src/lib.rs": code})
    about = {"name": "hello-shop", "vers": "1.0.0", "deps": [], "features": {}, "yanked": False}
    write(f"{root}/cargo/index/config.json", json.dumps({"dl": f"{url}/cargo/files/{{crate}}-{{version}}.crate"}))
    line = json.dumps(about | {"cksum": hashlib.sha256(content).hexdigest()})
    write(f"{root}/cargo/index/he/ll/hello-shop", line + "\n")
    write(f"{root}/cargo/files/hello-shop-1.0.0.crate", content)


def apt(root):
    about = "Package: hello-shop\nVersion: 1.0\nArchitecture: all\nMaintainer: Shop <shop@example.test>\nDescription: says hello\n"
    write(f"{root}/package/DEBIAN/control", about)
    write(f"{root}/package/usr/share/hello-shop/words", WORDS + "\n")
    place = f"{root}/debian/pool/hello-shop_1.0_all.deb"
    os.makedirs(os.path.dirname(place))
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", f"{root}/package", place], check=True, stdout=subprocess.DEVNULL)
    with open(place, "rb") as file:
        content = file.read()
    digest = hashlib.sha256(content).hexdigest()
    index = f"{about}Filename: pool/hello-shop_1.0_all.deb\nSize: {len(content)}\nSHA256: {digest}\n"
    machine = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()
    packages = f"main/binary-{machine}/Packages"
    write(f"{root}/debian/dists/stable/{packages}", index)
    digest = hashlib.sha256(index.encode()).hexdigest()
    release = f"Suite: stable\nArchitectures: {machine}\nComponents: main\nSHA256:\n {digest} {len(index)} {packages}\n"
    write(f"{root}/debian/dists/stable/Release", release)


def main(root, url):
    python(root)
    npm(root, url)
    cargo(root, url)
    apt(root)


main(*sys.argv[1:])
