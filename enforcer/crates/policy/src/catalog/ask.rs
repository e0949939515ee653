//! What catalogues say, for people and for tools: lists of actions, and which action a request is.

use std::sync::Arc;

use super::shelf::shipped_catalogue;
use super::{Action, Catalogue, Given, SERVICES, Setting, texts_of};
use crate::canon::Request;
use crate::diagnostics::{File, Report};
use crate::document::catalogue;
use crate::matcher::Judged;
use crate::policy::Source;
use crate::window::Moment;

/// The shipped catalogues, and those that stand in their place or beside them. In order of name.
#[derive(Debug)]
pub struct Catalogues {
    all: Vec<Arc<Catalogue>>,
}

/// One catalogue as people look at it.
#[derive(Debug, serde::Serialize)]
pub struct Service {
    pub name: String,
    pub about: String,
    /// what `resources` of a policy means
    pub resource: Option<String>,
    pub settings: Vec<ServiceSetting>,
    pub actions: Vec<ServiceAction>,
}

#[derive(Debug, serde::Serialize)]
pub struct ServiceSetting {
    pub name: String,
    pub about: String,
    pub default: Option<String>,
    pub example: Option<String>,
    /// May it be left out, with what mentions it?
    pub optional: bool,
}

#[derive(Debug, serde::Serialize)]
pub struct ServiceAction {
    pub name: String,
    pub kind: &'static str,
    pub about: String,
    /// completes "which …"
    pub dangerous: Option<String>,
    /// completes "which …"
    pub mints_credentials: Option<String>,
    /// `POST api.github.com/repos/{owner}/{repo}/pulls`
    pub requests: Vec<String>,
}

impl Catalogues {
    /// `own`: files of a `services/` folder, each called after its service.
    pub fn read(own: &[Source]) -> Result<Catalogues, Report> {
        let (mut all, mut report) = (Vec::new(), Report::default());
        let mut take = |read: Result<Arc<Catalogue>, Report>| match read {
            Ok(catalogue) => all.push(catalogue),
            Err(found) => report.findings.extend(found.findings),
        };
        for source in own {
            take(catalogue::read(&File::new(&source.name, &source.text), stem(&source.name)).map(Arc::new));
        }
        for (name, _) in SERVICES {
            if !own.iter().any(|source| stem(&source.name) == *name)
                && let Some(read) = shipped_catalogue(name)
            {
                take(read);
            }
        }
        if report.has_errors() {
            return Err(report);
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Catalogues { all })
    }

    /// All of them.
    pub fn services(&self) -> Vec<Service> {
        self.all.iter().map(|catalogue| service(catalogue)).collect()
    }

    /// The actions that a request with its body is, as `SERVICE/ACTION`.
    pub fn actions(&self, request: &Request) -> Vec<String> {
        let of = |catalogue: &Arc<Catalogue>| -> Vec<String> {
            if !catalogue.is_at(&request.host) {
                return Vec::new();
            }
            let is = |action: &&Action| action.takes(request);
            let told = |action: &Action| format!("{}/{}", catalogue.name, action.name);
            catalogue.actions.iter().filter(is).map(told).collect()
        };
        self.all.iter().flat_map(of).collect()
    }
}

impl Action {
    /// With examples for settings.
    pub(crate) fn takes(&self, request: &Request) -> bool {
        self.conditions.iter().any(|own| matches!(own.judge(request, Moment::ANY), Judged::Yes(_)))
    }
}

fn stem(name: &str) -> &str {
    let file = name.rsplit_once('/').map_or(name, |(_, file)| file);
    file.strip_suffix(".yaml").unwrap_or(file)
}

fn service(catalogue: &Catalogue) -> Service {
    Service {
        name: catalogue.name.to_string(),
        about: catalogue.about.clone(),
        resource: catalogue.resource.as_ref().map(|shape| shape.example()),
        settings: catalogue.settings.iter().map(setting).collect(),
        actions: catalogue.actions.iter().map(|own| action(catalogue, own)).collect(),
    }
}

fn setting(setting: &Setting) -> ServiceSetting {
    let example = setting.example();
    let (default, example) = match setting.given {
        Given::Default(_) => (example, None),
        Given::Needed { .. } => (None, example),
        Given::Optional { .. } => (None, example),
    };
    let optional = matches!(setting.given, Given::Optional { .. });
    ServiceSetting { name: setting.name.clone(), about: setting.about.clone(), default, example, optional }
}

fn action(catalogue: &Catalogue, action: &Action) -> ServiceAction {
    let mut requests = Vec::new();
    for endpoint in &action.endpoints {
        let methods: Vec<&str> = endpoint.methods.iter().map(|method| method.as_str()).collect();
        let hosts = catalogue.hosts(&endpoint.host).map(texts_of).unwrap_or_default().join("|");
        let checks: Vec<&str> = endpoint.checks.iter().map(|entry| entry.key.as_str()).collect();
        let checks = if checks.is_empty() { String::new() } else { format!(" with {}", checks.join(", ")) };
        for path in texts_of(&endpoint.path) {
            requests.push(format!("{} {hosts}{path}{checks}", methods.join(",")));
        }
    }
    ServiceAction {
        name: action.name.to_string(),
        kind: action.kind.word(),
        about: action.about.clone(),
        dangerous: action.dangerous.clone(),
        mints_credentials: action.mints.clone(),
        requests,
    }
}
