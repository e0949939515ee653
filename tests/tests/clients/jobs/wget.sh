at=$SHOP/m/$CLIENT
get() { wget -q -O- "$@"; }
echo "get $(get "$at/get")"
echo "post $(get --post-data="posted by $CLIENT" "$at/post")"
echo "redirect $(get "$at/redirect")"
echo "download $(get "$at/download" | sha256sum | cut -d' ' -f1)"
echo "upload $(get --method=PUT --body-file="$BULK" "$at/upload")"
# A part at a time, as an interrupted download goes on.
cd "$(mktemp -d)" && head -c 1000 "$BULK" > download
get -c -O download "$at/download" && echo "own $(sha256sum < download | cut -d' ' -f1 | cmp -s - "$BULK.sha256" && echo continued)"
