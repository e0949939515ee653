cd "$(mktemp -d)"
"$PYTHON" -m pip search -q --index "$SHOP/pypi/search" hello > /dev/null
"$PYTHON" -m pip install -q --no-cache-dir --index-url "$SHOP/pypi/simple" --target there hello-shop
cd there
echo "download $(sha256sum < bulk | cut -d' ' -f1)"
echo "own $("$PYTHON" -c 'import hello_shop; print(hello_shop.WORDS)')"
