//! Words of the language that this version has no machinery for: what each waits for, and what to write until then.
//!
//! The words themselves stand in the tables of `fields`; here is what their error (E030) says beside.

/// The hint of such a word, as the error names it (`budgets`, `protocol: udp`).
pub(super) fn until_then(word: &str) -> &'static str {
    match word {
        "budgets" | "budget" | "cost" => {
            "budgets of money come with a later version; until then `rate` bounds requests and `limits.upload` bytes"
        }
        "approve" | "expect: approve" => {
            "approvals come with a later version; until then leave out what needs one, or keep its `rate` low"
        }
        "alerts" => {
            "alerts come with a later version; until then `enforcer logs --follow` shows refusals as they happen"
        }
        "times" => "tests count no requests yet; until then a test asks about one request",
        "sql" | "protocol: postgres" | "protocol: mysql" | "protocol: redis" | "protocol: smtp"
        | "protocol: ssh" => {
            "only HTTP is understood yet; until then `protocol: tcp` relays a named host and port unread"
        }
        "aws" => "until then name the actions: `services: { aws: { allow: [s3-get] } }`",
        "protocol: udp" => {
            "datagrams are not relayed in this version; what speaks TCP too can use `protocol: tcp`"
        }
        "protocol: websocket" => "write `protocol: https` and `websocket: true`",
        "protocol: grpc" => "write `protocol: https` and `grpc: { service: …, method: … }`",
        "ignore_case" => "paths compare case; until then write each spelling that the server takes",
        "sigv4" => {
            "signing comes with a later version; nothing that has to be signed can be reached until then"
        }
        "oauth2" | "github_app" | "google_service_account" => {
            "tokens are not fetched yet; until then make one outside and store it: `bearer: { secret: NAME }`"
        }
        "login" => "passwords of databases are not given yet; until then they stay with the agent",
        "path" => "`placeholder` with `in: [path]` puts a secret into a path",
        "in: body" | "body" => "secrets go into headers, queries and paths; until then use one of these",
        "file"
        | "command"
        | "systemd_credential"
        | "hashicorp_vault"
        | "aws_secrets_manager"
        | "one_password" => "until then put the value into the vault: `enforcer secret set NAME`",
        "level: none" => "no request is sent without a receipt, so there is no such level yet",
        "audit" | "level: headers" | "level: full" | "bodies: hash" | "bodies: redacted" => {
            "receipts hold no headers and no bodies yet, for every rule alike; until then leave it out, or write \
             `audit: { level: metadata, bodies: none }`"
        }
        "keep" => "receipts are kept for good in this version, which is longer than any `keep`; leave it out",
        _ => "it comes with a later version",
    }
}
