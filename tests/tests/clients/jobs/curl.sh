# $HTTP is --http1.1 or --http2.
at=$SHOP/m/$CLIENT
echo "get $(curl -sS $HTTP "$at/get")"
echo "post $(curl -sS $HTTP --data-binary "posted by $CLIENT" "$at/post")"
echo "redirect $(curl -sSL $HTTP "$at/redirect")"
echo "download $(curl -sS $HTTP "$at/download" | sha256sum | cut -d' ' -f1)"
echo "upload $(curl -sS $HTTP -T "$BULK" "$at/upload")"
echo "own HTTP/$(curl -sS $HTTP -o /dev/null -w '%{http_version}' -F file=@/etc/passwd "$at/own")"
