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
    pub(crate) jobs: &'static [Job],
    /// What its typical job is, for people.
    pub(crate) typical: &'static str,
    /// What is told of it when it worked.
    pub(crate) expect: &'static str,
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

use Family::{JavaScript, Languages, Large, Packages, Python, System};
use Job::{Download, Get, Post, Redirect, Typical, Upload};

const ALL: &[Job] = &[Get, Post, Redirect, Download, Upload, Typical];
const TYPICAL: &[Job] = &[Typical];

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
    Client { name: "curl-h1", family: System, run: "HTTP=--http1.1 sh curl.sh", version: "curl --version", jobs: ALL, typical: "a form with a file", expect: "HTTP/1.1" },
    Client { name: "curl-h2", family: System, run: "HTTP=--http2 sh curl.sh", version: "curl --version", jobs: ALL, typical: "a form with a file", expect: "HTTP/2" },
    Client { name: "wget", family: System, run: "sh wget.sh", version: "wget --version", jobs: ALL, typical: "goes on with a download", expect: "continued" },
    Client { name: "git", family: System, run: "sh git.sh", version: "git --version; git lfs version", jobs: &[Download, Typical], typical: "clone, push, LFS up and down", expect: "2" },
    Client { name: "urllib", family: Python, run: "$PYTHON urllib_.py", version: "/usr/bin/python3 --version", jobs: ALL, typical: "DELETE", expect: "DELETE" },
    Client { name: "requests", family: Python, run: "$PYTHON requests_.py", version: "grep ^requests== python.txt", jobs: ALL, typical: "a form with a file, then pages on one connection", expect: "right ['right', 'right', 'right']" },
    Client { name: "urllib3", family: Python, run: "$PYTHON urllib3_.py", version: "grep ^urllib3== python.txt", jobs: ALL, typical: "pages on one connection", expect: "['right', 'right', 'right']" },
    Client { name: "httpx", family: Python, run: "$PYTHON httpx_.py", version: "grep ^httpx== python.txt", jobs: ALL, typical: "HTTP/2, an event stream", expect: "HTTP/2, 3 events" },
    Client { name: "aiohttp", family: Python, run: "$PYTHON aiohttp_.py", version: "grep ^aiohttp== python.txt", jobs: ALL, typical: "a WebSocket", expect: "echo hello" },
    Client { name: "openai", family: Python, run: "$PYTHON openai_.py", version: "grep ^openai== python.txt", jobs: ALL, typical: "a chat, whole and streamed", expect: "Hello ['Hel', 'lo']" },
    Client { name: "anthropic", family: Python, run: "$PYTHON anthropic_.py", version: "grep ^anthropic== python.txt", jobs: ALL, typical: "a message, whole and streamed", expect: "Hello ['Hel', 'lo']" },
    Client { name: "boto3", family: Python, run: "$PYTHON boto3_.py", version: "grep ^boto3== python.txt", jobs: &[Download, Typical], typical: "objects of a bucket, unsigned", expect: "hello" },
    Client { name: "grpcio", family: Python, run: "$PYTHON grpcio_.py", version: "grep ^grpcio== python.txt", jobs: TYPICAL, typical: "unary, and a stream both ways", expect: "right one, ['right 0', 'right 1', 'right 2']" },
    Client { name: "node-fetch", family: JavaScript, run: "node fetch.mjs", version: "node --version", jobs: ALL, typical: "an event stream", expect: "3 events" },
    Client { name: "undici", family: JavaScript, run: "node undici.mjs", version: "grep '\"undici\"' package.json", jobs: ALL, typical: "requests side by side on HTTP/2", expect: r#"["right","right","right"]"# },
    Client { name: "axios", family: JavaScript, run: "node axios.mjs", version: "grep '\"axios\"' package.json", jobs: ALL, typical: "requests side by side", expect: r#"["right","right","right"]"# },
    Client { name: "got", family: JavaScript, run: "node got.mjs", version: "grep '\"got\"' package.json", jobs: ALL, typical: "HTTP/2", expect: "HTTP/2.0 right" },
    Client { name: "ws", family: JavaScript, run: "node ws.mjs", version: "grep '\"ws\"' package.json", jobs: TYPICAL, typical: "a WebSocket", expect: "echo hello" },
    Client { name: "deno", family: JavaScript, run: "$DENO run -A fetch.mjs", version: "grep '\"deno\"' package.json", jobs: ALL, typical: "an event stream", expect: "3 events" },
    Client { name: "bun", family: JavaScript, run: "$BUN run fetch.mjs", version: "grep '\"bun\"' package.json", jobs: ALL, typical: "an event stream", expect: "3 events" },
    Client { name: "pip", family: Packages, run: "sh pip.sh", version: "grep ^pip== python.txt", jobs: TYPICAL, typical: "installs from an index", expect: "hello from the shop" },
    Client { name: "uv", family: Packages, run: "sh uv.sh", version: "grep ^uv== python.txt", jobs: TYPICAL, typical: "installs from an index", expect: "hello from the shop" },
    Client { name: "npm", family: Packages, run: "sh npm.sh", version: "npm --version", jobs: TYPICAL, typical: "installs from a registry, publishes to it", expect: "hello from the shop" },
    Client { name: "cargo", family: Packages, run: "sh cargo.sh", version: "cargo --version", jobs: TYPICAL, typical: "builds with a crate of a registry", expect: "hello from the shop" },
    Client { name: "apt", family: Packages, run: "sh apt.sh", version: "apt-get --version", jobs: TYPICAL, typical: "reads an index, downloads a package", expect: "hello from the shop" },
    Client { name: "net-http", family: Languages, run: "ruby net_http.rb", version: "ruby --version", jobs: ALL, typical: "a form with a file", expect: r#""credential": "right""# },
    Client { name: "php-streams", family: Languages, run: "php streams.php", version: "php --version", jobs: ALL, typical: "DELETE", expect: "DELETE" },
    Client { name: "php-curl", family: Languages, run: "php curl.php", version: "php --version", jobs: ALL, typical: "a form with a file", expect: r#""credential": "right""# },
    Client { name: "gh", family: Languages, run: "sh gh.sh", version: "gh --version", jobs: &[Get, Post, Typical], typical: "lists issues by GraphQL", expect: "It works" },
    Client { name: "go", family: Large, run: "export HOME=$(mktemp -d) && go run net_http.go", version: "go env GOVERSION | tr -d go", jobs: ALL, typical: "requests side by side", expect: "200 OK 200 OK" },
    Client { name: "java", family: Large, run: "java HttpClients.java", version: "java -version 2>&1", jobs: ALL, typical: "HTTP/2", expect: "HTTP_2" },
    Client { name: "chromium", family: Large, run: "sh chromium.sh", version: "chromium --version 2>/dev/null", jobs: ALL, typical: "a page with an EventSource and a WebSocket", expect: "3 events, echo hello" },
];
