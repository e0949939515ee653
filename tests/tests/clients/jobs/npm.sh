set -e
cd "$(mktemp -d)"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund --registry "$SHOP/npm/" hello-shop
words=$(node -p 'require("hello-shop")')
echo "download $(sha256sum < node_modules/hello-shop/bulk | cut -d' ' -f1)"
npm audit --silent --registry "$SHOP/npm/"
# Publishing is one PUT with the package in its body.
mkdir fresh && cd fresh && echo '{"name":"fresh-shop","version":"1.0.0"}' > package.json
cp "$BULK" bulk
echo "//${SHOP#https://}/npm/:_authToken=$API_TOKEN" > .npmrc
npm publish --silent --registry "$SHOP/npm/"
echo "own $words"
