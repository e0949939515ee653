//! A decision told rule by rule, with the smallest change that would turn a refusal round.
//!
//! Slow next to `decide` and for people only. The verdict itself comes from `decide`, so the two
//! cannot disagree.

use std::sync::Arc;

use crate::canon::{Request, Scheme};
use crate::doh::DNS_OVER_HTTPS;
use crate::matcher::{Conditions, Judged, Template, Unmet};
use crate::name::Name;
use crate::policy::{AgentPolicy, Decision, Pattern, Rate, ResponseRules, Rule};
use crate::window::Moment;

#[derive(Debug, serde::Serialize)]
pub struct Explanation {
    pub allowed: bool,
    pub rule: Option<String>,
    pub place: Option<String>,
    pub reason: String,
    pub steps: Vec<String>,
    pub obligations: Vec<String>,
    pub hint: Option<String>,
}

impl AgentPolicy {
    /// The decision of that moment, rule by rule, as text for people.
    pub fn explain(&self, request: &Request, at: Moment) -> Explanation {
        let mut explanation = self.enforced(request, at);
        let observed = self.observe(request, at);
        let passes = match &observed.decision {
            Decision::Allow { template, .. } => !template.catches_dns(request),
            Decision::Deny { .. } | Decision::Needs(_) => false,
        };
        if observed.would_deny.is_some() && passes {
            explanation.allowed = true;
            explanation.reason = format!("`mode: observe` lets it pass; enforced: {}", explanation.reason);
        }
        explanation
    }

    fn enforced(&self, request: &Request, at: Moment) -> Explanation {
        let steps = self.steps(request, at);
        match self.decide(request, at) {
            Decision::Allow { rule, template } if template.catches_dns(request) => Explanation {
                allowed: false,
                rule: Some(rule.name.to_string()),
                place: Some(rule.place.clone()),
                reason: format!(
                    "rule `{}` would allow it, but it is a look-up of names over HTTPS",
                    rule.name
                ),
                steps,
                obligations: Vec::new(),
                hint: Some(DNS_OVER_HTTPS.to_owned()),
            },
            Decision::Allow { rule, template } => Explanation {
                allowed: true,
                rule: Some(rule.name.to_string()),
                place: Some(rule.place.clone()),
                reason: format!("rule `{}` allows it: path `{template}`", rule.name),
                steps,
                obligations: self.obligations(&rule),
                hint: None,
            },
            Decision::Deny { rule: Some(rule) } => Explanation {
                allowed: false,
                rule: Some(rule.name.to_string()),
                place: Some(rule.place.clone()),
                reason: match &rule.message {
                    Some(message) => format!("deny rule `{}` blocks it: {message}", rule.name),
                    None => format!("deny rule `{}` blocks it", rule.name),
                },
                steps,
                obligations: Vec::new(),
                hint: Some(format!(
                    "no allow rule can outweigh a deny rule; narrow or remove `{}` ({})",
                    rule.name, rule.place
                )),
            },
            Decision::Needs(wanted) => Explanation {
                allowed: false,
                rule: None,
                place: None,
                reason: format!("its body decides, which has to be {}; none was given", wanted.kinds()),
                steps,
                obligations: Vec::new(),
                hint: Some("give the body too; without one nothing is allowed here".to_owned()),
            },
            Decision::Deny { rule: None } => Explanation {
                allowed: false,
                rule: None,
                place: None,
                reason: "no rule matches, and what no rule allows is denied".to_owned(),
                steps,
                obligations: Vec::new(),
                hint: Some(self.smallest_change(request, at)),
            },
        }
    }

    /// Deny rules first, then allow rules up to the one that decides.
    fn steps(&self, request: &Request, at: Moment) -> Vec<String> {
        let mut steps = Vec::new();
        for (number, (rule, conditions)) in self.rules.iter().zip(&self.conditions).enumerate() {
            let effect = if number < self.denies { "deny" } else { "allow" };
            let unmet = match conditions.judge(request, at) {
                Judged::No => conditions.unmet(request, at),
                Judged::Needs(wanted) => {
                    steps.push(format!(
                        "{effect} `{}` ({}): its body decides, which has to be {}",
                        rule.name,
                        rule.place,
                        wanted.kinds()
                    ));
                    continue;
                }
                Judged::Yes(_) => Vec::new(),
            };
            if unmet.is_empty() {
                steps.push(format!("{effect} `{}` ({}): matches, and so decides", rule.name, rule.place));
                return steps;
            }
            let why: Vec<String> = unmet.iter().map(|unmet| difference(unmet, conditions, request)).collect();
            steps.push(format!("{effect} `{}` ({}): no match: {}", rule.name, rule.place, why.join("; ")));
        }
        steps.push("no rule left: denied".to_owned());
        steps
    }

    /// Which check of which rule a refused request fails, where the rule is otherwise for it. For the agent:
    /// about the rule alone, without values of the request.
    pub fn nearly(&self, request: &Request, at: Moment) -> Option<(Arc<Rule>, String)> {
        let allow = self.rules.iter().zip(&self.conditions).skip(self.denies);
        allow.into_iter().find_map(|(rule, conditions)| {
            let unmet = conditions.unmet(request, at);
            let checks: Option<Vec<String>> = unmet
                .into_iter()
                .map(|unmet| match unmet {
                    Unmet::Check(what) => Some(what),
                    Unmet::RawPath => Some("its path has an encoded slash".to_owned()),
                    Unmet::Time
                    | Unmet::Path
                    | Unmet::Method
                    | Unmet::Port
                    | Unmet::Scheme
                    | Unmet::Host
                    | Unmet::Carriage => None,
                })
                .collect();
            checks.filter(|checks| !checks.is_empty()).map(|checks| (rule.clone(), checks.join("; ")))
        })
    }

    pub(crate) fn obligations(&self, rule: &Rule) -> Vec<String> {
        let mut obligations = Vec::new();
        if let Some(credential) = rule.credential.as_ref().and_then(|name| self.credential(name.as_str())) {
            obligations
                .push(format!("credential `{}` is added (secret `{}`)", credential.name, credential.secret));
        }
        let rates = |whose: &str, rates: &[Rate]| -> Vec<String> {
            rates.iter().map(|rate| format!("at most {rate} for {whose}")).collect()
        };
        obligations.extend(rates("this rule", &rule.rates));
        obligations.extend(rates("the agent", self.rates()));
        obligations.extend(self.upload().iter().map(|budget| format!("at most {budget} sent by the agent")));
        obligations
            .extend(self.download().iter().map(|budget| format!("at most {budget} received by the agent")));
        if let Some(concurrent) = self.concurrent() {
            obligations.push(format!("at most {concurrent} requests of the agent at a time"));
        }
        if let Some(max) = rule.max_body.into_iter().chain(self.max_body()).min() {
            obligations.push(format!("a body of at most {max} bytes"));
        }
        if let Some(response) = &rule.response {
            obligations.extend(of_answer(response));
        }
        if rule.websocket {
            obligations.push(
                "it may become a WebSocket, whose messages are bounded and searched for secrets, not judged"
                    .to_owned(),
            );
        }
        obligations
    }

    /// Where a catalogue that the policy speaks of has an action for it that the policy does not name.
    fn action_advice(&self, request: &Request) -> Option<String> {
        let named = |service: &Name, action: &Name| {
            let own = self.rules.iter().filter_map(|rule| rule.action.as_ref());
            own.into_iter().any(|own| own.service == *service && own.action == *action)
        };
        self.catalogues.iter().find_map(|catalogue| {
            let action = catalogue.actions.iter().find(|action| action.takes(request))?;
            if named(&catalogue.name, &action.name) {
                return None;
            }
            let warning = action.mints.as_ref().or(action.dangerous.as_ref());
            let warning = warning.map_or(String::new(), |what| format!("; mind that it {what}"));
            Some(format!(
                "it is the action `{0}/{1}`: `allow: [{1}]` of `{0}` under `services` would allow it{warning}",
                catalogue.name, action.name
            ))
        })
    }

    /// Of the allow rules for the host, the one that lacks least; else a new rule.
    fn smallest_change(&self, request: &Request, at: Moment) -> String {
        if let Some(advice) = self.loopback_advice(&request.host, request.port) {
            return advice;
        }
        if let Some(advice) = self.action_advice(request) {
            return advice;
        }
        let near = self
            .rules
            .iter()
            .zip(&self.conditions)
            .skip(self.denies)
            .map(|(rule, conditions)| (lacking(conditions, request, at), rule))
            .filter(|(unmet, _)| !unmet.contains(&Unmet::Host))
            .min_by_key(|(unmet, _)| (unmet.len(), unmet.first().cloned()));
        match near {
            Some((unmet, rule)) if unmet.iter().any(|unmet| matches!(unmet, Unmet::Check(_))) => {
                let checks: Vec<String> = unmet.iter().map(|unmet| change(unmet, request)).collect();
                format!("rule `{}` ({}) would allow it, but {}", rule.name, rule.place, checks.join("; "))
            }
            Some((unmet, rule)) => {
                let changes: Vec<String> = unmet.iter().map(|unmet| change(unmet, request)).collect();
                format!("rule `{}` ({}) would allow it if {}", rule.name, rule.place, changes.join(" and "))
            }
            None => new_rule(request),
        }
    }
}

fn of_answer(response: &ResponseRules) -> Vec<String> {
    let mut obligations = Vec::new();
    let list = |items: &[Box<str>]| items.join(", ");
    if !response.content_types.is_empty() {
        obligations.push(format!("an answer of type {} only", list(&response.content_types)));
    }
    if let Some(max) = response.max_body {
        obligations.push(format!("an answer of at most {max} bytes"));
    }
    if !response.fields.is_empty() {
        obligations.push(format!("fields {} are taken out of the answer", list(&response.fields)));
    }
    for path in &response.json {
        obligations.push(format!("{} is taken out of the answer", path.text));
    }
    for pattern in &response.patterns {
        let what = match pattern {
            Pattern::Email => "mail addresses",
            Pattern::CardNumber => "card numbers",
        };
        obligations.push(format!("{what} are taken out of the answer"));
    }
    if !response.headers.is_empty() {
        obligations.push(format!("headers {} are taken out of the answer", list(&response.headers)));
    }
    obligations
}

/// What is unmet, without the port that follows from the protocol.
fn lacking(conditions: &Conditions, request: &Request, at: Moment) -> Vec<Unmet> {
    let mut unmet = conditions.unmet(request, at);
    let own_default = conditions.scheme.map(Scheme::default_port) == conditions.port;
    if unmet.contains(&Unmet::Scheme) && own_default && request.port == request.scheme.default_port() {
        unmet.retain(|unmet| *unmet != Unmet::Port);
    }
    unmet
}

fn difference(unmet: &Unmet, conditions: &Conditions, request: &Request) -> String {
    fn list<T: ToString>(items: &[T]) -> String {
        items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
    match unmet {
        Unmet::Check(what) => what.clone(),
        Unmet::Host => format!("host {} is not {}", request.host, list(&conditions.hosts)),
        Unmet::Scheme => match conditions.scheme {
            Some(scheme) => format!("{} is not {}", request.scheme.as_str(), scheme.as_str()),
            None => String::new(),
        },
        Unmet::Port => match conditions.port {
            Some(port) => format!("port {} is not {port}", request.port),
            None => String::new(),
        },
        Unmet::Method => {
            format!(
                "method {} is not {}",
                request.method,
                list(conditions.methods.as_deref().unwrap_or_default())
            )
        }
        Unmet::Path => {
            let templates: Vec<&str> = conditions.templates.iter().map(Template::as_str).collect();
            format!("path {} is not {}", request.target.path(), templates.join(", "))
        }
        Unmet::RawPath => "its path has an encoded slash, and the rule no `raw_path: true`".to_owned(),
        Unmet::Carriage => "it lets connections through unread, and judges no requests".to_owned(),
        Unmet::Time => match &conditions.when {
            Some(when) => format!("it holds {when}"),
            None => String::new(),
        },
    }
}

fn change(unmet: &Unmet, request: &Request) -> String {
    match unmet {
        Unmet::Carriage => "it were a rule for requests".to_owned(),
        Unmet::Time => "its `when` were open now".to_owned(),
        Unmet::Check(what) => what.clone(),
        Unmet::Host => format!("its `host` had {}", request.host),
        Unmet::Scheme => format!("its `protocol` were {}", request.scheme.as_str()),
        Unmet::Port => format!("its `port` were {}", request.port),
        Unmet::Method => format!("its `methods` had {}", request.method),
        Unmet::Path => format!("its `paths` had \"{}\"", literal(request)),
        Unmet::RawPath => "it said `raw_path: true`".to_owned(),
    }
}

fn new_rule(request: &Request) -> String {
    let host = &request.host;
    // An IPv6 address is only a text to YAML when it is quoted.
    let quote = if host.ip().is_some_and(|ip| ip.is_ipv6()) { "\"" } else { "" };
    let mut rule = format!(
        "no allow rule is for host {host}; this one would do:\n  - name: NAME\n    host: {quote}{host}{quote}\n"
    );
    if request.scheme == Scheme::Http {
        rule.push_str("    protocol: http\n");
    }
    if request.port != request.scheme.default_port() {
        rule.push_str(&format!("    port: {}\n", request.port));
    }
    rule.push_str(&format!("    methods: {}\n    paths: \"{}\"", request.method, literal(request)));
    if request.target.has_encoded_slash() {
        rule.push_str("\n    raw_path: true");
    }
    rule
}

/// A path as a template that means only itself.
fn literal(request: &Request) -> String {
    request.target.path().replace('*', "%2A")
}
