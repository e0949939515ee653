export GH_HOST=${SHOP#https://} GH_ENTERPRISE_TOKEN=$API_TOKEN GH_NO_UPDATE_NOTIFIER=1
at=m/$CLIENT
echo "get $(gh api "$at/get")"
echo "post $(printf 'posted by %s' "$CLIENT" | gh api -X POST --input - "$at/post")"
echo "redirect $(gh api "$at/redirect")"
echo "download $(gh api "$at/download" | sha256sum | cut -d' ' -f1)"
echo "upload $(gh api -X PUT --input "$BULK" "$at/upload")"
echo "own $(gh issue list -R "$GH_HOST/shop/window" | cut -f1,3)"
