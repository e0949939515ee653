//! The words of the language: which are read, in which form, and which are known but cannot be enforced yet.
//!
//! A word moves from `later` to `known` in the commit that enforces it. The readers, their "did you
//! mean" and the JSON Schema (`enforcer policy schema`) all go by these tables.

use super::form::{Field, Form, Shape, field};
use super::{bait, include, limits, local, response, select, services, values, when};

const NAME: &Form = &Form::Text(&values::NAME);
const PATH: &Form = &Form::OneOrList(&Form::Text(&values::PATH));
pub(super) const RATE_FORM: Form = Form::OneOrList(&Form::Text(&values::RATE));
const RATE: &Form = &RATE_FORM;
const BUDGET: &Form = &Form::OneOrList(&Form::Text(&limits::BUDGET));
const SIZE: &Form = &Form::Text(&values::SIZE);
const ENV: &Form = &Form::Text(&values::VARIABLE);
const CHECKS: &Form = &Form::Keyed(&Form::Section(&CHECK));
const MODE: &Form = &Form::Words(&["enforce", "observe"]);
const BOOL: &Form = &Form::Words(&["true", "false"]);

pub(crate) const POLICY: Shape = Shape::of(
    "a policy",
    &[
        field("version", &Form::Words(&["1"]), "The version of the language: 1."),
        field("agent", NAME, "The agent that the policy is for; one file for each."),
        field("description", &Form::Prose, "What the agent is for, in a sentence."),
        field("owner", &Form::Prose, "Who answers for the agent."),
        field(
            "select",
            &Form::List(&Form::OneOf(&SELECTOR)),
            "What is this agent: any of these, and nothing else. Without it, what is run or attached under its name.",
        ),
        field(
            "mode",
            MODE,
            "`enforce`: what no rule allows is refused. `observe`: it passes, and is recorded.",
        ),
        field(
            "credentials",
            &Form::Named(&Form::OneOf(&CREDENTIAL)),
            "Secrets that rules bring along, and how each is put into a request. The agent never sees one.",
        ),
        field(
            "deny",
            &Form::List(&Form::Section(&DENY_RULE)),
            "Rules that block. Any that matches blocks, whatever `allow` says; an absent field means any.",
        ),
        field(
            "allow",
            &Form::List(&Form::Section(&ALLOW_RULE)),
            "Rules that let through, read from top to bottom: the first that matches decides.",
        ),
        field("limits", &Form::Section(&LIMITS), "Bounds for the agent as a whole."),
        field("dns", &Form::Section(&DNS), "Which names the agent may resolve, and to where."),
        field(
            "loopback",
            &Form::OneOrList(&Form::Text(&values::PORT)),
            "TCP ports of the host's loopback that the agent reaches at its own. Relayed unread.",
        ),
        field(
            "unix",
            &Form::OneOrList(&Form::Text(&local::SOCKET)),
            "Unix sockets of the host's that the agent may connect to, by path. What it says there is not seen.",
        ),
        field("decoys", &Form::List(&Form::Section(&DECOY)), "Keys that open nothing: bait for a thief."),
        field(
            "tripwire",
            &Form::Words(&["alert", "quarantine", "freeze"]),
            "What follows when a decoy is used (else `quarantine`), or a placeholder sent to a wrong host (else `alert`).",
        ),
        field("audit", &Form::Section(&AUDIT), "How its receipts are kept."),
        field(
            "services",
            &Form::Named(&Form::Section(&services::SERVICE)),
            "Actions of services instead of URLs, from catalogues: `enforcer catalog ls`.",
        ),
        field("use", &Form::OneOrList(include::USED), "Ready-made rules, after those of this file."),
        field(
            "include",
            &Form::OneOrList(&Form::Text(&include::PATH)),
            "Files whose rules come after those of this one; paths go from the policy folder.",
        ),
        field(
            "tests",
            &Form::List(&Form::Section(&TEST)),
            "Requests and what must become of them; run at every load, and a file that fails is not loaded.",
        ),
    ],
)
.needs(&["version", "agent"])
.later(&["budgets", "alerts"]);

pub(super) const ALLOW_RULE: Shape = rule().needs(&["name", "host"]);
pub(super) const DENY_RULE: Shape = rule().needs(&["name"]).not_here(ALLOW_ONLY);

const fn rule() -> Shape {
    Shape::of("a rule", RULE).later(&["sql", "aws", "budget", "cost", "approve", "audit", "ignore_case"])
}

const RULE: &[Field] = &[
    field("name", NAME, "Unique in the file; stands in every receipt of the rule."),
    field(
        "host",
        &Form::OneOrList(&Form::Text(&values::HOST)),
        "Host names, addresses, or `*.example.com` for every name below example.com.",
    ),
    field("port", &Form::Text(&values::PORT), "The port; without it, the protocol's own."),
    field(
        "protocol",
        &Form::Words(&["https", "http", "tcp"]),
        "In `allow`, https where nothing is said; in `deny`, all. `tcp`: relayed unread, to named hosts.",
    ),
    field(
        "tls",
        &Form::Words(&["inspect", "passthrough"]),
        "`passthrough`: TLS is relayed unread, by its server name; no methods, paths or credential.",
    ),
    field(
        "methods",
        &Form::OneOrList(&Form::Text(&values::METHOD)),
        "Methods in upper case; without it, any.",
    ),
    field(
        "paths",
        PATH,
        "Path templates: `*` or `{name}` is one segment, `**` any number of them; without it, any path.",
    ),
    field(
        "raw_path",
        BOOL,
        "`true`: a segment of the path may hold an encoded slash (`%2F`), as in `/@scope%2Fname`; else such a path is refused.",
    ),
    field("query", CHECKS, "What fields of the query have to be."),
    field("headers", CHECKS, "What header fields have to be."),
    field("form", CHECKS, "What fields of a form in the body have to be."),
    field("json", CHECKS, "What has to stand in a JSON body, by place: `head.repo`, `items[*].price`."),
    field("graphql", &Form::Section(&GRAPHQL), "Which GraphQL operations and fields."),
    field("mcp", &Form::Section(&MCP), "Which tools of an MCP server may be called, with which arguments."),
    field(
        "jsonrpc",
        &Form::Section(&JSONRPC),
        "Which JSON-RPC methods may be called, with which parameters.",
    ),
    field("grpc", &Form::Section(&GRPC), "Which gRPC service and methods; instead of `paths` and `methods`."),
    field("git", &Form::Section(&GIT), "What git may do: fetch, and push to which refs."),
    field("credential", NAME, "The credential, from `credentials`, that such a request gets."),
    field("rate", RATE, "How often, for example `30/min burst 10`; over it, requests are refused."),
    field(
        "max_body",
        SIZE,
        "The largest request body, and the largest message to a WebSocket, for example `10MiB`.",
    ),
    field(
        "websocket",
        BOOL,
        "May a GET become a WebSocket? What its messages say is not looked into, so a rule has to say so.",
    ),
    field("mode", MODE, "`observe`: the rule blocks nothing, and what it would block is recorded."),
    field("when", &Form::Section(&WHEN), "When the rule is there; outside, it matches nothing."),
    field("response", &Form::Section(&RESPONSE), "What is done to answers before the agent gets them."),
    field("message", &Form::Prose, "What the agent reads when a deny rule blocks it."),
];

/// Fields that say how a request is let through; a deny rule lets none through.
const ALLOW_ONLY: &[&str] = &["credential", "rate", "max_body", "websocket", "response", "tls", "raw_path"];

pub(super) const PROTOCOLS_LATER: &[&str] =
    &["websocket", "grpc", "udp", "postgres", "mysql", "redis", "smtp", "ssh"];

pub(super) const LIMITS: Shape = Shape::of(
    "`limits`",
    &[
        field("rate", RATE, "How often the agent may ask anything at all."),
        field("concurrent", &Form::Text(&limits::COUNT), "How many requests of the agent may be under way."),
        field("upload", BUDGET, "How much the agent may send, heads of requests included."),
        field("download", BUDGET, "How much the agent may receive."),
        field("max_body", SIZE, "The largest request body of any rule."),
    ],
)
.later(&["budget"]);

pub(super) const DNS: Shape = Shape::of(
    "`dns`",
    &[
        field(
            "private_addresses",
            &Form::OneOrList(&Form::Text(&values::NETWORK)),
            "Networks the agent may reach although they are private.",
        ),
        field(
            "also",
            &Form::OneOrList(&Form::Text(&values::HOST_NAME)),
            "Names that resolve though no rule reaches them.",
        ),
        field(
            "resolve",
            &Form::Words(&["allowed", "any", "none"]),
            "`allowed`: only names that a rule reaches. `any`: every name. `none`: no name at all.",
        ),
        field("rate", &Form::Text(&values::RATE), "How often the agent may ask for a name."),
    ],
);

pub(super) const AUDIT: Shape = Shape::of(
    "`audit`",
    &[
        field(
            "durability",
            &Form::Words(&["written", "synced"]),
            "`written` survives a killed process, `synced` a power cut, before a credential leaves.",
        ),
        field(
            "level",
            &Form::Words(&["metadata"]),
            "`metadata`: what was asked of whom, and what became of it.",
        ),
        field("bodies", &Form::Words(&["none"]), "`none`: nothing of what was sent or received."),
    ],
)
.later(&["keep"]);

pub(super) const SELECTOR: Shape = Shape::of(
    "an entry of `select`",
    &[
        field("run", NAME, "What `enforcer run` starts under this name, which is the agent's own."),
        field(
            "unit",
            &Form::Text(&select::UNIT),
            "A service or scope of systemd; `*` as in `worker@*.service`.",
        ),
        field("slice", &Form::Text(&select::SLICE), "What systemd runs in this slice."),
        field("cgroup", &Form::Text(&select::CGROUP), "A cgroup by its path; with `/**` all below it, too."),
        field(
            "user",
            &Form::Text(&select::USER),
            "What runs as this user, by name or id, and as nobody else.",
        ),
        field(
            "container",
            &Form::Section(&CONTAINER),
            "A container, as its engine tells; all that is said holds.",
        ),
    ],
);

pub(super) const CONTAINER: Shape = Shape::of(
    "`container`",
    &[
        field("image", &Form::Scalar, "Its image, such as `registry.example.com/agents/*:**`."),
        field("name", &Form::Scalar, "Its name; `*` stays within a `/`, `**` does not."),
        field("labels", &Form::Keyed(&Form::Scalar), "Its labels, by key; values may have `*`."),
    ],
);

pub(super) const WHEN: Shape = Shape::of(
    "`when`",
    &[
        field(
            "days",
            &Form::OneOrList(&Form::Text(&when::DAY)),
            "Days of the week, as `mon-fri` or `[sat, sun]`.",
        ),
        field("hours", &Form::OneOrList(&Form::Text(&when::HOURS)), "From when to when on such a day."),
        field("timezone", &Form::Text(&when::ZONE), "Whose days and hours these are."),
        field("until", &Form::Text(&when::UNTIL), "The last day, or the moment at which the rule ends."),
    ],
);

pub(super) const CHECK: Shape = Shape::of(
    "a check",
    &[
        field("equals", &Form::Scalar, "The value; unquoted `5`, `true` and `null` are no texts."),
        field("in", &Form::OneOrList(&Form::Scalar), "One of these values."),
        field("not_in", &Form::OneOrList(&Form::Scalar), "None of these values; it has to be there."),
        field(
            "glob",
            &Form::OneOrList(&Form::Scalar),
            "A text with `*` for a run without blanks, commas, semicolons and quotes, `**` for any run.",
        ),
        field("matches", &Form::Scalar, "A regular expression for the whole value."),
        field("max", &Form::Scalar, "The largest number."),
        field("min", &Form::Scalar, "The smallest number."),
        field("max_length", &Form::Text(&values::COUNT), "The most characters, or items of a list."),
        field("exists", BOOL, "Is it there?"),
    ],
);

const WORDS: &Form = &Form::OneOrList(&Form::Scalar);

pub(super) const GRAPHQL: Shape = Shape::of(
    "`graphql`",
    &[
        field(
            "operations",
            &Form::OneOrList(&Form::Words(&["query", "mutation", "subscription"])),
            "Kinds of operations.",
        ),
        field("fields", WORDS, "Fields by their path from the root, each with all that is below it."),
        field("deny_fields", WORDS, "Fields that may not be selected, wherever they stand."),
        field("max_depth", &Form::Text(&values::COUNT), "How deep a query may go."),
        field("persisted", WORDS, "Hashes or ids of queries that the server keeps and that are fine."),
    ],
);

pub(super) const MCP: Shape = Shape::of(
    "`mcp`",
    &[
        field("tools", &Form::List(&Form::Section(&TOOL)), "Tools that may be called."),
        field("methods", WORDS, "Other methods, besides those every session needs."),
    ],
);

pub(super) const TOOL: Shape = Shape::of(
    "a tool",
    &[
        field("name", &Form::Scalar, "Its name, or a pattern with `*`."),
        field("args", CHECKS, "What its arguments have to be."),
    ],
)
.needs(&["name"]);

pub(super) const JSONRPC: Shape = Shape::of(
    "`jsonrpc`",
    &[
        field("methods", WORDS, "Methods that may be called; `*` as in `glob`."),
        field("params", CHECKS, "What the parameters of each call have to be."),
    ],
)
.needs(&["methods"]);

pub(super) const GRPC: Shape = Shape::of(
    "`grpc`",
    &[
        field("service", WORDS, "Full names of services: `package.v1.Service`."),
        field("method", WORDS, "Their methods; without it, every one."),
    ],
)
.needs(&["service"]);

pub(super) const GIT: Shape = Shape::of(
    "`git`",
    &[
        field("fetch", BOOL, "Clone and fetch."),
        field(
            "push",
            &Form::Either(&[Form::Words(&["true", "false"]), Form::Section(&PUSH)]),
            "Push; `true` only in deny rules.",
        ),
    ],
);

pub(super) const PUSH: Shape = Shape::of(
    "`push`",
    &[
        field("refs", WORDS, "Full names of refs; `*` stays within a `/`, `**` does not."),
        field("create", BOOL, "Make new refs."),
        field("update", BOOL, "Move refs forward, which is proved from the commits that are pushed."),
        field("delete", BOOL, "Delete refs."),
        field("force", BOOL, "Move refs anywhere."),
    ],
);

pub(super) const RESPONSE: Shape = Shape::of(
    "`response`",
    &[
        field("redact", &Form::List(&Form::Section(&REDACT)), "What is taken out of answers."),
        field(
            "max_body",
            SIZE,
            "The largest body of an answer, and the largest message of a WebSocket; what is beyond is cut.",
        ),
        field(
            "content_types",
            &Form::OneOrList(&Form::Text(&response::MEDIA_TYPE)),
            "The types an answer may have; any other is refused.",
        ),
    ],
);

pub(super) const REDACT: Shape = Shape::of(
    "an entry of `redact`",
    &[
        field(
            "fields",
            &Form::OneOrList(&Form::Text(&response::FIELD)),
            "JSON fields of this name, at any depth.",
        ),
        field("json", &Form::OneOrList(&Form::Text(&response::JSON_PATH)), "Places in JSON."),
        field(
            "pattern",
            &Form::OneOrList(&Form::Words(&["email", "card_number"])),
            "What texts are searched for.",
        ),
        field("headers", &Form::OneOrList(&Form::Text(&values::HEADER)), "Headers of the answer."),
    ],
);

pub(super) const TEST: Shape = Shape::of(
    "a test",
    &[
        field("request", &Form::Text(&values::REQUEST), "METHOD and URL."),
        field("headers", &Form::Keyed(&Form::OneOrList(&Form::Scalar)), "Its header fields."),
        field("json", &Form::Any, "Its body, as JSON."),
        field("form", &Form::Scalar, "Its body, as a form: `a=1&b=2`."),
        field("expect", &Form::Words(&["allow", "deny"]), "What must become of it."),
        field("by", &Form::Text(&values::RULE), "The rule that must decide."),
        field(
            "at",
            &Form::Text(&when::MOMENT),
            "The moment at which; without it, rules with `when` are taken for open.",
        ),
    ],
)
.needs(&["request", "expect"])
.later(&["times"]);

pub(super) const CREDENTIAL: Shape = Shape::of(
    "a credential",
    &[
        field("bearer", &Form::Section(&BEARER), "`Authorization: Bearer SECRET`"),
        field("header", &Form::Section(&HEADER), "A header of its own, such as `x-api-key`."),
        field("basic", &Form::Section(&BASIC), "`Authorization: Basic`, the secret as its password."),
        field("query", &Form::Section(&QUERY), "A parameter of the query."),
        field(
            "placeholder",
            &Form::Section(&PLACEHOLDER),
            "Replaced where the agent put its placeholder, in the named places only.",
        ),
    ],
)
.later(&["path", "sigv4", "oauth2", "github_app", "google_service_account", "login"]);

pub(super) const DECOY: Shape = Shape::of(
    "a decoy",
    &[
        field("name", NAME, "Stands in the receipt and the alert."),
        field("env", ENV, "The variable that it lies in; one that a thief would look for."),
        field(
            "format",
            &Form::Text(&bait::FORMAT),
            "What such a key looks like, with one `{}` for its random part; without it, that part alone.",
        ),
    ],
)
.needs(&["name", "env"]);

const SECRET_FIELD: Field = field(
    "secret",
    &Form::Either(&[Form::Text(&values::NAME), Form::OneOf(&VALUE)]),
    "The name of the secret in the vault: `enforcer secret set NAME`.",
);
const ENV_FIELD: Field = field("env", ENV, "The variable in which the agent finds its placeholder.");

pub(super) const BEARER: Shape = Shape::of("`bearer`", &[SECRET_FIELD, ENV_FIELD]).needs(&["secret"]);
pub(super) const HEADER: Shape = Shape::of(
    "`header`",
    &[
        field("name", &Form::Text(&values::HEADER), "The header, for example `x-api-key`."),
        SECRET_FIELD,
        field("format", &Form::Text(&values::FORMAT), "Text with one `{}` for the secret."),
        ENV_FIELD,
    ],
)
.needs(&["name", "secret"]);
pub(super) const BASIC: Shape = Shape::of(
    "`basic`",
    &[
        field("username", &Form::Text(&values::USER), "The user name; `\"\"` where the server wants none."),
        SECRET_FIELD,
        ENV_FIELD,
    ],
)
.needs(&["username", "secret"]);
pub(super) const QUERY: Shape = Shape::of(
    "`query`",
    &[
        field("name", &Form::Text(&values::PARAMETER), "The parameter, for example `api_key`."),
        SECRET_FIELD,
        ENV_FIELD,
    ],
)
.needs(&["name", "secret"]);
pub(super) const PLACEHOLDER: Shape = Shape::of(
    "`placeholder`",
    &[
        ENV_FIELD,
        SECRET_FIELD,
        field(
            "in",
            &Form::List(&Form::Either(&[Form::Words(&["path"]), Form::OneOf(&PLACE)])),
            "Where the placeholder may stand.",
        ),
        field("required", BOOL, "Must the placeholder be in every request of the rule?"),
    ],
)
.needs(&["env", "secret", "in"]);

pub(super) const PLACE: Shape = Shape::of(
    "`in`",
    &[
        field("header", &Form::Text(&values::HEADER), "In this header."),
        field("query", &Form::Text(&values::PARAMETER), "As the value of this parameter."),
    ],
)
.later(&["body"]);

pub(super) const VALUE: Shape = Shape::of("a secret value", &[field("secret", NAME, "A name in the vault.")])
    .later(&[
        "file",
        "command",
        "systemd_credential",
        "hashicorp_vault",
        "aws_secrets_manager",
        "one_password",
    ]);
