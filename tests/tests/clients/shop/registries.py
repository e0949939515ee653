"""Makes small registries of files below a directory: an index for pip and uv, npm, cargo and apt, with one package each. The package
holds a large file; indexes name it below `moved`, from where nginx redirects to `files`.

    registries.py DIRECTORY URL LARGE-FILE
"""

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
    """A gzipped tar of names and contents."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def write(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())


def python(root, bulk):
    name = "hello_shop-1.0-py3-none-any.whl"
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        info = "hello_shop-1.0.dist-info"
        archive.writestr("hello_shop.py", f"WORDS = {WORDS!r}\n")
        archive.writestr("bulk", bulk)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: hello-shop\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: shop\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    content = wheel.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    write(f"{root}/pypi/files/{name}", content)
    write(f"{root}/pypi/simple/hello-shop/index.html", f'<a href="/pypi/moved/{name}#sha256={digest}">{name}</a>')


def npm(root, url, bulk):
    manifest = {"name": "hello-shop", "version": "1.0.0", "main": "index.js"}
    code = f"module.exports = {WORDS!r};\n".encode()
    content = tree({"package/package.json": json.dumps(manifest).encode(), "package/index.js": code, "package/bulk": bulk})
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    dist = {"tarball": f"{url}/npm/moved/hello-shop-1.0.0.tgz", "integrity": integrity, "shasum": hashlib.sha1(content).hexdigest()}
    about = {"name": "hello-shop", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": manifest | {"dist": dist}}}
    write(f"{root}/npm/hello-shop", json.dumps(about))
    write(f"{root}/npm/files/hello-shop-1.0.0.tgz", content)


def cargo(root, url, bulk):
    manifest = '[package]\nname = "hello-shop"\nversion = "1.0.0"\nedition = "2021"\n'
    code = f'pub const WORDS: &str = "{WORDS}";\n'
    files = {"Cargo.toml": manifest.encode(), "src/lib.rs": code.encode(), "bulk": bulk}
    content = tree({f"hello-shop-1.0.0/{name}": held for name, held in files.items()})
    about = {"name": "hello-shop", "vers": "1.0.0", "deps": [], "features": {}, "yanked": False}
    write(f"{root}/cargo/index/config.json", json.dumps({"dl": f"{url}/cargo/moved/{{crate}}-{{version}}.crate", "api": f"{url}/cargo"}))
    line = json.dumps(about | {"cksum": hashlib.sha256(content).hexdigest()})
    write(f"{root}/cargo/index/he/ll/hello-shop", line + "\n")
    write(f"{root}/cargo/files/hello-shop-1.0.0.crate", content)


def apt(root, bulk):
    about = "Package: hello-shop\nVersion: 1.0\nArchitecture: all\nMaintainer: Shop <shop@example.test>\nDescription: says hello\n"
    write(f"{root}/package/DEBIAN/control", about)
    write(f"{root}/package/usr/share/hello-shop/words", WORDS + "\n")
    write(f"{root}/package/usr/share/hello-shop/bulk", bulk)
    place = f"{root}/debian/files/hello-shop_1.0_all.deb"
    os.makedirs(os.path.dirname(place))
    build = ["dpkg-deb", "-Znone", "--root-owner-group", "--build", f"{root}/package", place]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    with open(place, "rb") as file:
        content = file.read()
    digest = hashlib.sha256(content).hexdigest()
    index = f"{about}Filename: moved/hello-shop_1.0_all.deb\nSize: {len(content)}\nSHA256: {digest}\n"
    machine = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()
    packages = f"main/binary-{machine}/Packages"
    write(f"{root}/debian/dists/stable/{packages}", index)
    digest = hashlib.sha256(index.encode()).hexdigest()
    release = f"Suite: stable\nArchitectures: {machine}\nComponents: main\nSHA256:\n {digest} {len(index)} {packages}\n"
    write(f"{root}/debian/dists/stable/Release", release)


def main(root, url, large):
    with open(large, "rb") as file:
        bulk = file.read()
    python(root, bulk)
    npm(root, url, bulk)
    cargo(root, url, bulk)
    apt(root, bulk)


main(*sys.argv[1:])
