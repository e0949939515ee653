there=$(mktemp -d)
cd "$there"
mkdir -p state/lists/partial cache/archives/partial
touch status
echo "deb [trusted=yes] $SHOP/debian stable main" > list
apt() {
  apt-get -qq -o Dir::State="$there/state" -o Dir::State::status="$there/status" -o Dir::Cache="$there/cache" \
    -o Dir::Etc::sourcelist="$there/list" -o Dir::Etc::sourceparts=- -o Debug::NoLocking=1 -o Acquire::Languages=none "$@"
}
apt update && apt download hello-shop
dpkg-deb -x hello-shop_1.0_all.deb there
echo "download $(sha256sum < there/usr/share/hello-shop/bulk | cut -d' ' -f1)"
echo "own $(cat there/usr/share/hello-shop/words)"
