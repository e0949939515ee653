//! The clients: one entry each.

/// A client and how it is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    /// Also part of the paths that it asks for.
    pub(crate) name: &'static str,
    pub(crate) family: Family,
    /// A shell line that does the jobs, in the directory of the scripts. A result is one line: the job's name, what came of it.
    pub(crate) run: &'static str,
    /// A shell line that prints the version, where the lists are.
    pub(crate) version: &'static str,
    /// Its jobs but for the typical one.
    pub(crate) does: Does,
    /// What its typical job is, for people.
    pub(crate) typical: &'static str,
    /// What is told of it when it worked.
    pub(crate) expect: &'static str,
    /// What the servers see of it; see `judge::Request`.
    pub(crate) sees: &'static [&'static str],
}

impl Client {
    pub(crate) fn jobs(&self) -> Vec<Job> {
        let plain = [Get, Post, Redirect, Download, Upload];
        let mut jobs = match self.does {
            Plain => plain.to_vec(),
            Itself(jobs) => {
                plain.into_iter().filter(|job| jobs.iter().any(|(done, _)| done == job)).collect()
            }
        };
        jobs.push(Typical);
        jobs
    }
}

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Does {
    /// Paths of the shop's, one for each job.
    Plain,
    /// What its protocol says, which the servers see; an upload's path has what arrived.
    Itself(&'static [(Job, &'static str)]),
}

/// Clients of a family share a stage, and so a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Of Debian's.
    System,
    Python,
    JavaScript,
    /// Those that fetch packages.
    Packages,
    /// Other languages, of Debian's.
    Languages,
    /// Languages that take long to install: `cargo xtask clients`.
    Large,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    Get,
    /// With a body.
    Post,
    Redirect,
    /// A large one.
    Download,
    /// A large one.
    Upload,
    /// What it is used for.
    Typical,
}

use Does::{Itself, Plain};
use Family::{JavaScript, Languages, Large, Packages, Python, System};
use Job::{Download, Get, Post, Redirect, Typical, Upload};

#[rustfmt::skip]
const GIT: Does = Itself(&[
    (Get, "GET /project.git/info/refs?service=git-upload-pack 200"),
    (Post, "POST /project.git/git-upload-pack 200"),
    (Redirect, "GET /moved/project.git/info/refs?service=git-upload-pack 302"),
    (Download, "GET /lfs/objects/DIGEST 200"),
    (Upload, "PUT /lfs/objects/DIGEST 200"),
]);
#[rustfmt::skip]
const BOTO3: Does = Itself(&[
    (Get, "GET /s3/bucket/small 200"),
    (Post, "POST /s3/bucket/bulk?uploads 200"),
    (Redirect, "GET /s3/far/small 301"),
    (Redirect, "GET /s3/far/small 200"),
    (Download, "GET /s3/bucket/bulk 200"),
    (Upload, "POST /s3/bucket/bulk?uploadId=1 200"),
]);
#[rustfmt::skip]
const RPC: Does = Itself(&[
    (Download, "POST /shop.Echo/Download 200"),
    (Upload, "POST /shop.Echo/Upload 200"),
]);
const CALLS: &[&str] = &["POST /shop.Echo/Unary 200", "POST /shop.Echo/Stream 200"];
#[rustfmt::skip]
const WS: Does = Itself(&[
    (Get, "GET /socket 101"),
    (Redirect, "GET /moved/socket 302"),
    (Download, "GET /socket 101"),
    (Upload, "GET /socket 101"),
]);
#[rustfmt::skip]
const PIP: Does = Itself(&[
    (Get, "GET /pypi/simple/hello-shop/ 200"),
    (Post, "POST /pypi/search 200"),
    (Redirect, "GET /pypi/moved/hello_shop-1.0-py3-none-any.whl 302"),
    (Download, "GET /pypi/files/hello_shop-1.0-py3-none-any.whl 200"),
]);
#[rustfmt::skip]
const UV: Does = Itself(&[
    (Get, "GET /pypi/simple/hello-shop/ 200"),
    (Post, "POST /pypi/legacy/ 200"),
    (Redirect, "GET /pypi/moved/hello_shop-1.0-py3-none-any.whl 302"),
    (Download, "GET /pypi/files/hello_shop-1.0-py3-none-any.whl 200"),
    (Upload, "POST /pypi/legacy/ 200"),
]);
#[rustfmt::skip]
const NPM: Does = Itself(&[
    (Get, "GET /npm/hello-shop 200"),
    (Post, "POST /npm/-/npm/v1/security/advisories/bulk 200"),
    (Redirect, "GET /npm/moved/hello-shop-1.0.0.tgz 302"),
    (Download, "GET /npm/files/hello-shop-1.0.0.tgz 200"),
    (Upload, "PUT /npm/fresh-shop 200"),
]);
#[rustfmt::skip]
const CARGO: Does = Itself(&[
    (Get, "GET /cargo/index/he/ll/hello-shop 200"),
    (Redirect, "GET /cargo/moved/hello-shop-1.0.0.crate 302"),
    (Download, "GET /cargo/files/hello-shop-1.0.0.crate 200"),
    (Upload, "PUT /cargo/api/v1/crates/new 200"),
]);
#[rustfmt::skip]
const APT: Does = Itself(&[
    (Get, "GET /debian/dists/stable/Release 200"),
    (Redirect, "GET /debian/moved/hello-shop_1.0_all.deb 302"),
    (Download, "GET /debian/files/hello-shop_1.0_all.deb 200"),
]);

impl Job {
    /// The first word of a result.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Get => "get",
            Post => "post",
            Redirect => "redirect",
            Download => "download",
            Upload => "upload",
            Typical => "own",
        }
    }
}

/// The first number with a point in what a program says of its version.
pub(crate) fn version(told: &str) -> &str {
    let number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    let mut words = told.split(|c: char| !c.is_ascii_alphanumeric() && !".+~-".contains(c));
    words.find_map(|word| Some(word.strip_prefix('v').unwrap_or(word)).filter(number)).unwrap_or("?")
}

#[rustfmt::skip]
pub(crate) const CLIENTS: &[Client] = &[
    Client { name: "curl-h1", family: System, run: "HTTP=--http1.1 sh curl.sh", version: "curl --version", does: Plain, typical: "a form with a file", expect: "HTTP/1.1", sees: &["POST own 200"] },
    Client { name: "curl-h2", family: System, run: "HTTP=--http2 sh curl.sh", version: "curl --version", does: Plain, typical: "a form with a file", expect: "HTTP/2", sees: &["POST own 200"] },
    Client { name: "wget", family: System, run: "sh wget.sh", version: "wget --version", does: Plain, typical: "a download that was broken off", expect: "continued", sees: &["GET download 200"] },
    Client { name: "git", family: System, run: "sh git.sh", version: "git --version; git lfs version", does: GIT, typical: "clone, push, LFS up and down", expect: "2", sees: &["POST /project.git/git-receive-pack 200"] },
    Client { name: "urllib", family: Python, run: "$PYTHON urllib_.py", version: "/usr/bin/python3 --version", does: Plain, typical: "DELETE", expect: "DELETE", sees: &["DELETE own 200"] },
    Client { name: "requests", family: Python, run: "$PYTHON requests_.py", version: "grep ^requests== python.txt", does: Plain, typical: "a form with a file, then pages on one connection", expect: "right ['right', 'right', 'right']", sees: &["POST own 200", "GET own?page=2 200"] },
    Client { name: "urllib3", family: Python, run: "$PYTHON urllib3_.py", version: "grep ^urllib3== python.txt", does: Plain, typical: "pages on one connection", expect: "['right', 'right', 'right']", sees: &["GET own?page=2 200"] },
    Client { name: "httpx", family: Python, run: "$PYTHON httpx_.py", version: "grep ^httpx== python.txt", does: Plain, typical: "HTTP/2, an event stream", expect: "HTTP/2, 3 events", sees: &["GET own 200", "GET /events 200"] },
    Client { name: "aiohttp", family: Python, run: "$PYTHON aiohttp_.py", version: "grep ^aiohttp== python.txt", does: Plain, typical: "a WebSocket", expect: "echo hello", sees: &["GET /socket 101"] },
    Client { name: "openai", family: Python, run: "$PYTHON openai_.py", version: "grep ^openai== python.txt", does: Plain, typical: "a chat, whole and streamed", expect: "Hello ['Hel', 'lo']", sees: &["POST /openai/v1/chat/completions 200"] },
    Client { name: "anthropic", family: Python, run: "$PYTHON anthropic_.py", version: "grep ^anthropic== python.txt", does: Plain, typical: "a message, whole and streamed", expect: "Hello ['Hel', 'lo']", sees: &["POST /anthropic/v1/messages 200"] },
    Client { name: "boto3", family: Python, run: "$PYTHON boto3_.py", version: "grep ^boto3== python.txt", does: BOTO3, typical: "objects of a bucket, in parts, unsigned", expect: "hello hello", sees: &["GET /s3/bucket/small 200"] },
    Client { name: "grpcio", family: Python, run: "$PYTHON grpcio_.py", version: "grep ^grpcio== python.txt", does: RPC, typical: "unary, and a stream both ways", expect: "right one, ['right 0', 'right 1', 'right 2']", sees: CALLS },
    Client { name: "node-fetch", family: JavaScript, run: "node fetch.mjs", version: "node --version", does: Plain, typical: "an event stream", expect: "3 events", sees: &["GET /events 200"] },
    Client { name: "undici", family: JavaScript, run: "node undici.mjs", version: "grep '\"undici\"' package.json", does: Plain, typical: "requests side by side on HTTP/2", expect: r#"["right","right","right"]"#, sees: &["GET own?page=3 200"] },
    Client { name: "axios", family: JavaScript, run: "node axios.mjs", version: "grep '\"axios\"' package.json", does: Plain, typical: "requests side by side", expect: r#"["right","right","right"]"#, sees: &["GET own?page=3 200"] },
    Client { name: "got", family: JavaScript, run: "node got.mjs", version: "grep '\"got\"' package.json", does: Plain, typical: "HTTP/2", expect: "HTTP/2.0 right", sees: &["GET own 200"] },
    Client { name: "ws", family: JavaScript, run: "node ws.mjs", version: "grep '\"ws\"' package.json", does: WS, typical: "a WebSocket", expect: "echo hello, noted", sees: &["GET /socket 101"] },
    Client { name: "deno", family: JavaScript, run: "$DENO run -A fetch.mjs", version: "grep '\"deno\"' package.json", does: Plain, typical: "an event stream", expect: "3 events", sees: &["GET /events 200"] },
    Client { name: "bun", family: JavaScript, run: "$BUN run fetch.mjs", version: "grep '\"bun\"' package.json", does: Plain, typical: "an event stream", expect: "3 events", sees: &["GET /events 200"] },
    Client { name: "pip", family: Packages, run: "sh pip.sh", version: "grep ^pip== python.txt", does: PIP, typical: "installs from an index", expect: "hello from the shop", sees: &["GET /pypi/files/hello_shop-1.0-py3-none-any.whl 200"] },
    Client { name: "uv", family: Packages, run: "sh uv.sh", version: "grep ^uv== python.txt", does: UV, typical: "installs from an index", expect: "hello from the shop", sees: &["GET /pypi/files/hello_shop-1.0-py3-none-any.whl 200"] },
    Client { name: "npm", family: Packages, run: "sh npm.sh", version: "npm --version", does: NPM, typical: "installs from a registry, publishes to it", expect: "hello from the shop", sees: &["GET /npm/files/hello-shop-1.0.0.tgz 200", "PUT /npm/fresh-shop 200"] },
    Client { name: "cargo", family: Packages, run: "sh cargo.sh", version: "cargo --version", does: CARGO, typical: "builds with a crate of a registry, publishes to it", expect: "hello from the shop", sees: &["GET /cargo/files/hello-shop-1.0.0.crate 200"] },
    Client { name: "apt", family: Packages, run: "sh apt.sh", version: "apt-get --version", does: APT, typical: "reads an index, downloads a package", expect: "hello from the shop", sees: &["GET /debian/files/hello-shop_1.0_all.deb 200"] },
    Client { name: "net-http", family: Languages, run: "ruby net_http.rb", version: "ruby --version", does: Plain, typical: "a form with a file", expect: r#""credential": "right""#, sees: &["POST own 200"] },
    Client { name: "php-streams", family: Languages, run: "php streams.php", version: "php --version", does: Plain, typical: "DELETE", expect: "DELETE", sees: &["DELETE own 200"] },
    Client { name: "php-curl", family: Languages, run: "php curl.php", version: "php --version", does: Plain, typical: "a form with a file", expect: r#""credential": "right""#, sees: &["POST own 200"] },
    Client { name: "gh", family: Languages, run: "sh gh.sh", version: "gh --version", does: Plain, typical: "lists issues by GraphQL", expect: "It works", sees: &["POST /api/graphql 200"] },
    Client { name: "go", family: Large, run: "export HOME=$(mktemp -d) && go run net_http.go", version: "go env GOVERSION | tr -d go", does: Plain, typical: "requests side by side", expect: "200 OK 200 OK", sees: &["GET own?page=2 200"] },
    Client { name: "reqwest", family: Large, run: "$RUST_CLIENTS/reqwest", version: "grep '^reqwest' rust/Cargo.toml", does: Plain, typical: "HTTP/2, a form with a file", expect: "HTTP/2.0 200", sees: &["POST own 200"] },
    Client { name: "tonic", family: Large, run: "$RUST_CLIENTS/tonic", version: "grep '^tonic' rust/Cargo.toml", does: RPC, typical: "unary, and a stream both ways", expect: "right one, right 0 right 1 right 2", sees: CALLS },
    Client { name: "java", family: Large, run: "java HttpClients.java", version: "java -version 2>&1", does: Plain, typical: "HTTP/2", expect: "HTTP_2", sees: &["GET own 200"] },
    Client { name: "chromium", family: Large, run: "sh chromium.sh", version: "chromium --version 2>/dev/null", does: Plain, typical: "a page with an EventSource and a WebSocket", expect: "3 events, echo hello", sees: &["GET /events 200", "GET /socket 101"] },
];
