//! The words of the language: which are read, and which are known but cannot be enforced yet.
//!
//! A word moves from `later` to `known` in the commit that enforces it.

/// A mapping with a fixed set of keys.
pub(crate) struct Shape {
    /// as in "unknown field `x` in …"
    pub(super) what: &'static str,
    pub(super) known: &'static [&'static str],
    pub(super) later: &'static [&'static str],
}

pub(super) const POLICY: Shape = Shape {
    what: "a policy",
    known: &[
        "version",
        "agent",
        "description",
        "owner",
        "mode",
        "credentials",
        "deny",
        "allow",
        "limits",
        "dns",
        "audit",
        "tests",
    ],
    later: &["select", "use", "services", "budgets", "alerts"],
};

pub(super) const RULE: Shape = Shape {
    what: "a rule",
    known: &[
        "name",
        "host",
        "port",
        "protocol",
        "methods",
        "paths",
        "credential",
        "rate",
        "max_body",
        "websocket",
        "message",
    ],
    later: &[
        "tls",
        "query",
        "headers",
        "form",
        "json",
        "graphql",
        "mcp",
        "git",
        "sql",
        "aws",
        "budget",
        "cost",
        "approve",
        "when",
        "response",
        "mode",
        "audit",
        "raw_path",
        "ignore_case",
    ],
};

/// Fields that say how a request is let through; a deny rule lets none through.
pub(super) const ALLOW_ONLY: &[&str] = &["credential", "rate", "max_body", "websocket"];

pub(super) const PROTOCOLS_LATER: &[&str] =
    &["websocket", "grpc", "tcp", "udp", "postgres", "mysql", "redis", "smtp", "ssh"];

pub(super) const LIMITS: Shape =
    Shape { what: "`limits`", known: &["rate", "max_body"], later: &["concurrent", "upload", "budget"] };

pub(super) const DNS: Shape =
    Shape { what: "`dns`", known: &["private_addresses", "also", "resolve"], later: &["rate"] };

pub(super) const AUDIT: Shape =
    Shape { what: "`audit`", known: &["durability"], later: &["level", "bodies", "keep"] };

pub(super) const TEST: Shape =
    Shape { what: "a test", known: &["request", "expect", "by"], later: &["json", "headers", "times"] };

pub(super) const CREDENTIAL: Shape = Shape {
    what: "a credential",
    known: &["bearer", "header", "basic", "query", "placeholder"],
    later: &["path", "sigv4", "oauth2", "github_app", "google_service_account", "login"],
};

pub(super) const BEARER: Shape = Shape { what: "`bearer`", known: &["secret", "env"], later: &[] };
pub(super) const HEADER: Shape =
    Shape { what: "`header`", known: &["name", "secret", "format", "env"], later: &[] };
pub(super) const BASIC: Shape = Shape { what: "`basic`", known: &["username", "secret", "env"], later: &[] };
pub(super) const QUERY: Shape = Shape { what: "`query`", known: &["name", "secret", "env"], later: &[] };
pub(super) const PLACEHOLDER: Shape =
    Shape { what: "`placeholder`", known: &["env", "secret", "in", "required"], later: &[] };

pub(super) const PLACE: Shape = Shape { what: "`in`", known: &["header", "query"], later: &["body"] };

pub(super) const VALUE: Shape = Shape {
    what: "a secret value",
    known: &["secret"],
    later: &[
        "file",
        "command",
        "systemd_credential",
        "hashicorp_vault",
        "aws_secrets_manager",
        "one_password",
    ],
};
