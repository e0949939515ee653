cd "$(mktemp -d)"
"$PYTHON" -m pip install -q --no-cache-dir --index-url "$SHOP/pypi/simple" --target there hello-shop
cd there && echo "own $("$PYTHON" -c 'import hello_shop; print(hello_shop.WORDS)')"
