set -e
cd "$(mktemp -d)"
"$UV" pip install -q --no-cache --python "$PYTHON" --default-index "$SHOP/pypi/simple" --target there hello-shop
echo "download $(sha256sum < there/bulk | cut -d' ' -f1)"
# A wheel is a zip with a few words about itself.
mkdir -p fresh_shop-1.0.dist-info dist
printf 'Metadata-Version: 2.1\nName: fresh-shop\nVersion: 1.0\n' > fresh_shop-1.0.dist-info/METADATA
printf 'Wheel-Version: 1.0\nGenerator: shop\nRoot-Is-Purelib: true\nTag: py3-none-any\n' > fresh_shop-1.0.dist-info/WHEEL
touch fresh_shop-1.0.dist-info/RECORD
cp "$BULK" bulk
"$PYTHON" -m zipfile -c dist/fresh_shop-1.0-py3-none-any.whl fresh_shop-1.0.dist-info bulk
UV_PUBLISH_TOKEN=$API_TOKEN "$UV" publish -q --no-cache --trusted-publishing never --publish-url "$SHOP/pypi/legacy/"
cd there && echo "own $("$PYTHON" -c 'import hello_shop; print(hello_shop.WORDS)')"
