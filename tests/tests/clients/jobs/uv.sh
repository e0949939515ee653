cd "$(mktemp -d)"
"$UV" pip install -q --no-cache --python "$PYTHON" --default-index "$SHOP/pypi/simple" --target there hello-shop
cd there && echo "own $("$PYTHON" -c 'import hello_shop; print(hello_shop.WORDS)')"
