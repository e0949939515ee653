export CARGO_HOME=$(mktemp -d)
cd "$(mktemp -d)"
mkdir -p src .cargo
printf '[registries.shop]\nindex = "sparse+%s/cargo/index/"\n' "$SHOP" > .cargo/config.toml
printf '[package]\nname = "buyer"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\nhello-shop = { version = "1", registry = "shop" }\n' > Cargo.toml
echo 'fn main() { println!("{}", hello_shop::WORDS) }' > src/main.rs
PATH=$RUST/bin:$PATH
echo "own $(cargo run -q)"
