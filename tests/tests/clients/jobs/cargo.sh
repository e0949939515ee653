set -e
export CARGO_HOME=$(mktemp -d)
cd "$(mktemp -d)"
mkdir -p src .cargo
printf '[registries.shop]\nindex = "sparse+%s/cargo/index/"\n' "$SHOP" > .cargo/config.toml
printf '[package]\nname = "buyer"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\nhello-shop = { version = "1", registry = "shop" }\n' > Cargo.toml
echo 'fn main() { println!("{}", hello_shop::WORDS) }' > src/main.rs
PATH=$RUST/bin:$PATH
words=$(cargo run -q)
echo "download $(cat "$CARGO_HOME"/registry/src/*/hello-shop-1.0.0/bulk | sha256sum | cut -d' ' -f1)"
mkdir -p fresh/src && cd fresh && touch src/lib.rs
printf '[package]\nname = "fresh-shop"\nversion = "1.0.0"\nedition = "2021"\ndescription = "fresh"\nlicense = "MIT"\n[workspace]\n' > Cargo.toml
cp "$BULK" bulk
CARGO_REGISTRIES_SHOP_TOKEN=$API_TOKEN cargo publish -q --no-verify --allow-dirty --registry shop
echo "own $words"
