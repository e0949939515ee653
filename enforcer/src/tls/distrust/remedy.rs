//! What would make a client trust us, by kind of client: one entry each.

use enforcer_capture::message::Process;

/// Programs that take their roots in the same way.
struct Kind {
    name: &'static str,
    /// Beginnings of file names; a version may follow.
    programs: &'static [&'static str],
    /// Those of the variables of `enforcer run` that it or its libraries read.
    variables: &'static [&'static str],
    /// Why it may not trust us although it has them, and what then helps.
    otherwise: &'static str,
}

#[rustfmt::skip]
const KINDS: &[Kind] = &[
    Kind { name: "Node", programs: &["node"], variables: &["NODE_EXTRA_CA_CERTS"], otherwise: "its code names roots of its own (the option `ca` of a request or an agent): take that out, or add the file in $NODE_EXTRA_CA_CERTS to it" },
    Kind { name: "Python", programs: &["python", "pypy"], variables: &["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"], otherwise: "its code names roots of its own (certifi, or `cafile=`): give it the file in $SSL_CERT_FILE, in requests and httpx by `verify=`, in grpcio by `root_certificates=`" },
    Kind { name: "uv", programs: &["uv"], variables: &["SSL_CERT_FILE"], otherwise: "set UV_SYSTEM_CERTS=1 for it" },
    Kind { name: "deno", programs: &["deno"], variables: &["DENO_CERT"], otherwise: "pass `--cert` with the file in $DENO_CERT" },
    Kind { name: "bun", programs: &["bun"], variables: &["NODE_EXTRA_CA_CERTS"], otherwise: "give `tls: { ca }` of the request the file in $SSL_CERT_FILE" },
    Kind { name: "Java", programs: &["java"], variables: &["JAVA_TOOL_OPTIONS"], otherwise: "its code or its options name another trust store: take `-Djavax.net.ssl.trustStore` out, or import the root of `enforcer ca export` with keytool" },
    Kind { name: "curl", programs: &["curl"], variables: &["CURL_CA_BUNDLE"], otherwise: "it was told of another bundle (`--cacert`, `--capath`, .curlrc): take that out" },
    Kind { name: "wget", programs: &["wget"], variables: &["WGETRC"], otherwise: "it was told of another bundle (`--ca-certificate`, `--no-config`): take that out" },
    Kind { name: "git", programs: &["git"], variables: &["GIT_SSL_CAINFO"], otherwise: "take `http.sslCAInfo` and `http.sslCAPath` out of its configuration" },
    Kind { name: "cargo", programs: &["cargo"], variables: &["CARGO_HTTP_CAINFO"], otherwise: "take `http.cainfo` out of its configuration" },
    Kind { name: "Ruby", programs: &["ruby"], variables: &["SSL_CERT_FILE"], otherwise: "its code names roots of its own (`ca_file`): give it the file in $SSL_CERT_FILE" },
    Kind { name: "PHP", programs: &["php"], variables: &["SSL_CERT_FILE"], otherwise: "its code or php.ini names roots of its own (`cafile`, `curl.cainfo`, `openssl.cafile`): name the file in $SSL_CERT_FILE there" },
    Kind { name: "Perl", programs: &["perl"], variables: &["PERL_LWP_SSL_CA_FILE"], otherwise: "its code names roots of its own (`SSL_ca_file`): give it the file in $SSL_CERT_FILE" },
    Kind { name: "Chromium", programs: &["chrom", "headless_shell", "msedge", "brave"], variables: &[], otherwise: "it takes roots by policy from /etc/chromium and /etc/opt/chrome, where `enforcer run` puts ours if one of them exists, or from a database in its home: `certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n enforcer -i FILE`, with the root of `enforcer ca export`" },
    Kind { name: "Firefox", programs: &["firefox"], variables: &[], otherwise: "it reads roots from a database in its profile: `certutil -d sql:PROFILE -A -t C,, -n enforcer -i FILE`, with the root of `enforcer ca export`" },
];

/// Most others read the first (Go, OpenSSL, rustls with the platform's roots), those with gRPC's C library the second.
const OTHER: Kind = Kind {
    name: "unknown",
    programs: &[],
    variables: &["SSL_CERT_FILE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"],
    otherwise: "it brings its own roots or pins the server's: give it the file in $SSL_CERT_FILE by its own settings",
};

/// The kind of a client, and what to do about it. `comm` is all that is known of one that has ended.
pub(super) fn remedy(process: Option<&Process>, comm: &str, host: &str) -> (&'static str, String) {
    let exe = process.and_then(|process| process.exe.file_name()).map(|name| name.to_string_lossy());
    let name = exe.as_deref().unwrap_or(comm);
    let kind = KINDS.iter().find(|kind| kind.programs.iter().any(|program| begins(name, program)));
    let kind = kind.unwrap_or(&OTHER);
    let lacks = |wanted: &&str| {
        let lacks = &process?.lacks;
        lacks.iter().find(|(name, _)| name == wanted).map(|(name, value)| assignment(name, value))
    };
    let lacking: Vec<String> = kind.variables.iter().filter_map(lacks).collect();
    if !lacking.is_empty() {
        let with = lacking.join(" ");
        return (
            kind.name,
            format!("start it with {with}, which it lacks; if that is not enough: {}", kind.otherwise),
        );
    }
    let rule = format!(
        "if it cannot be told, a rule with `tls: passthrough` for {host} lets it through unread, without a credential"
    );
    (kind.name, format!("{}; {rule}", kind.otherwise))
}

/// `python3.11` is `python`; `uvicorn` is not `uv`.
fn begins(name: &str, program: &str) -> bool {
    let rest = name.strip_prefix(program);
    rest.is_some_and(|rest| program.len() > 4 || !rest.starts_with(|c: char| c.is_ascii_alphabetic()))
}

/// As a shell takes it.
fn assignment(name: &str, value: &str) -> String {
    if value.contains(' ') { format!("{name}='{value}'") } else { format!("{name}={value}") }
}
