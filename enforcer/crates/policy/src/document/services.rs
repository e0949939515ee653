//! `services:` of a policy: actions of catalogues, each made into rules called `SERVICE/ACTION`.
//!
//! Whatever is wrong with such a rule is wrong with the line that names the action. An action that its
//! catalogue warns of has to be named itself: the words for kinds (`read`, `write`) never mean it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::catalogue::{needs, with_settings};
use super::form::{Form, Shape, field};
use super::reader::{Fields, Reader};
use super::rule::{self, Effect, RuleText};
use super::{At, Document, checks, fields, values};
use crate::canon::shown;
use crate::catalog::{
    Action, Catalogue, Endpoint, Given, KINDS, Kind, Resource, SERVICES, Settings, Shelf, rules,
};
use crate::diagnostics::{Report, Span, nearest};
use crate::name::Name;
use crate::yaml::{Entry, Node, Value};

pub(super) const SERVICE: Shape = Shape::of(
    "an entry of `services`",
    &[
        field(
            "service",
            &Form::Text(&values::NAME),
            "The catalogue; without it, the one called like the entry.",
        ),
        field("credential", &Form::Text(&values::NAME), "The credential that its requests get."),
        field(
            "resources",
            &Form::OneOrList(&Form::Scalar),
            "On what: for example repositories. Without it, on all.",
        ),
        field("settings", &Form::Keyed(&Form::OneOrList(&Form::Scalar)), "What the catalogue asks for."),
        field(
            "allow",
            ACTIONS,
            "Actions, or `read`, `write`, `delete`, `admin` for all that nothing warns of.",
        ),
        field("deny", ACTIONS, "Actions that are blocked, on every resource, whatever else allows them."),
        field(
            "rate",
            &Form::Either(&[fields::RATE_FORM, Form::Named(&fields::RATE_FORM)]),
            "How often, for each action by itself; one rate for all, or one by action.",
        ),
        field("port", &Form::Text(&values::PORT), "The port, where it is not the usual one."),
        field("max_body", &Form::Text(&values::SIZE), "The largest request body."),
        field("when", &Form::Section(&fields::WHEN), "When the rules are there."),
        field("response", &Form::Section(&fields::RESPONSE), "What is done to answers."),
        field("message", &Form::Prose, "What the agent reads when an action is blocked by `deny`."),
    ],
)
.later(&["approve", "budget", "cost", "audit"]);

const ACTIONS: &Form = &Form::OneOrList(&Form::Text(&values::NAME));

/// Fields that go into each rule as they stand.
const OF_ALLOW: &[&str] = &["credential", "port", "max_body", "when", "response"];
const OF_DENY: &[&str] = &["when", "message"];

pub(super) fn read(r: &mut Reader<'_>, entry: &Entry, shelf: Shelf<'_>, document: &mut Document) {
    for entry in checks::keys(r, entry) {
        let Some(name) = r.parse_name(&entry.key, &entry.key_span) else { continue };
        let Some(fields) = r.section(entry, &SERVICE) else { continue };
        let service = match fields.get("service") {
            Some(service) => r.name(service),
            None => Some(name.clone()),
        };
        let Some(catalogue) = service.and_then(|service| find(r, &service, shelf)) else { continue };
        let asked = Asked {
            entry: name,
            resources: resources(r, fields, &catalogue),
            settings: settings(r, fields, &catalogue, &entry.key_span),
            rates: rates(r, fields, &catalogue),
            allow: words(r, fields.get("allow"), &catalogue),
            deny: words(r, fields.get("deny"), &catalogue),
            catalogue,
        };
        if asked.allow.is_empty() && asked.deny.is_empty() {
            if fields.get("allow").is_none() && fields.get("deny").is_none() {
                let hint =
                    "write for example `allow: [read]`; `enforcer catalog show SERVICE` lists the actions";
                r.missing(&entry.value, "an entry of `services` needs `allow` or `deny`", hint);
            }
            continue;
        }
        asked.contradictions(r);
        asked.deny_rules(r, fields, document);
        asked.allow_rules(r, fields, document);
        document.catalogues.push(asked.own_catalogue(r, fields, &entry.key_span));
    }
}

fn find(r: &mut Reader<'_>, name: &At<Name>, shelf: Shelf<'_>) -> Option<Arc<Catalogue>> {
    match shelf.catalogue(name.value.as_str()) {
        Some(Ok(catalogue)) => Some(catalogue),
        Some(Err(report)) => {
            r.add(report);
            None
        }
        None => {
            let known = shelf.names("services", SERVICES);
            let message = format!("there is no catalogue of a service `{}`", name.value);
            let hint = match nearest(name.value.as_str(), known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!(
                    "known are {}; another goes into `services/{}.yaml` beside the policies",
                    known.into_iter().collect::<Vec<_>>().join(", "),
                    name.value
                ),
            };
            r.error_with("E051", &name.span, message, hint);
            None
        }
    }
}

/// One entry of `services`.
struct Asked {
    entry: At<Name>,
    catalogue: Arc<Catalogue>,
    resources: Option<Vec<Resource>>,
    /// `None`: something is wrong with them, and was reported
    settings: Option<Settings>,
    rates: Rates,
    allow: Vec<At<Word>>,
    deny: Vec<At<Word>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Kind(Kind),
    /// by its number in the catalogue
    Action(usize),
}

enum Rates {
    None,
    All(Entry),
    /// by the action's number
    Each(BTreeMap<usize, Entry>),
}

fn words(r: &mut Reader<'_>, entry: Option<&Entry>, catalogue: &Catalogue) -> Vec<At<Word>> {
    let mut words: Vec<At<Word>> = Vec::new();
    for text in entry.map(|entry| r.one_or_list(entry)).unwrap_or_default() {
        let kind = KINDS.iter().find(|(word, _)| *word == text.value).map(|(_, kind)| Word::Kind(*kind));
        let Some(value) = kind.or_else(|| number(r, &text.value, &text.span, catalogue).map(Word::Action))
        else {
            continue;
        };
        if words.iter().any(|word| word.value == value) {
            r.error("E010", &text.span, format!("`{}` is written twice", text.value));
            continue;
        }
        words.push(At { value, span: text.span });
    }
    words
}

fn number(r: &mut Reader<'_>, text: &str, span: &Span, catalogue: &Catalogue) -> Option<usize> {
    let found = catalogue.actions.iter().position(|action| action.name.as_str() == text);
    if found.is_none() {
        let message = format!("`{}` has no action `{}`", catalogue.name, shown(text));
        let kinds = KINDS.iter().map(|(word, _)| *word);
        // People write `create_pr` too.
        let dashed = text.replace('_', "-");
        let known = || catalogue.actions.iter().map(|action| action.name.as_str());
        let hint = match nearest(&dashed, known().chain(kinds)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("`enforcer catalog show {}` lists them", catalogue.name),
        };
        r.error_with("E051", span, message, hint);
    }
    found
}

fn resources(r: &mut Reader<'_>, fields: Fields<'_>, catalogue: &Catalogue) -> Option<Vec<Resource>> {
    let entry = fields.get("resources")?;
    let Some(shape) = &catalogue.resource else {
        let message = format!(
            "requests to `{}` do not say what they are about, so nothing can be picked",
            catalogue.name
        );
        r.error_with("E054", &entry.key_span, message, "remove `resources`; narrow with rules of your own");
        return None;
    };
    let mut read = Vec::new();
    for text in r.one_or_list(entry) {
        match shape.read(&text.value, catalogue.raw_path) {
            Ok(resource) => read.push(resource),
            Err(why) => r.error_with("E054", &text.span, why, "`*` stands for any part"),
        }
    }
    Some(read)
}

/// `None`, after saying so, where one that is needed is missing or one is unknown.
fn settings(r: &mut Reader<'_>, fields: Fields<'_>, catalogue: &Catalogue, at: &Span) -> Option<Settings> {
    let given = match fields.get("settings") {
        Some(entry) => Some(checks::keys(r, entry)).filter(|entries| !entries.is_empty())?,
        None => &[],
    };
    read_settings(r, given, &catalogue.settings, &format!("`{}`", catalogue.name), at)
}

/// What a policy gives, and for the rest what the file says. Those that are needed and missing are not in it.
pub(super) fn read_settings(
    r: &mut Reader<'_>,
    given: &[Entry],
    known: &[crate::catalog::Setting],
    whose: &str,
    at: &Span,
) -> Option<Settings> {
    let mut settings = Settings::new();
    for setting in known {
        match setting.placed(at).given {
            Given::Default(value) => {
                settings.insert(setting.name.clone(), Some(value));
            }
            Given::Optional { .. } => {
                settings.insert(setting.name.clone(), None);
            }
            Given::Needed { .. } => {}
        }
    }
    let mut good = true;
    for entry in given {
        if !known.iter().any(|setting| setting.name == entry.key) {
            let message = format!("{whose} has no setting `{}`", shown(&entry.key));
            let hint = match nearest(&entry.key, known.iter().map(|setting| setting.name.as_str())) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => "it has none; remove it".to_owned(),
                None => {
                    let names: Vec<&str> = known.iter().map(|setting| setting.name.as_str()).collect();
                    format!("known are {}", names.join(", "))
                }
            };
            r.error_with("E053", &entry.key_span, message, hint);
            good = false;
        } else if r.one_or_list(entry).is_empty() {
            good = false;
        } else {
            settings.insert(entry.key.clone(), Some(entry.value.clone()));
        }
    }
    good.then_some(settings)
}

fn rates(r: &mut Reader<'_>, fields: Fields<'_>, catalogue: &Catalogue) -> Rates {
    let Some(entry) = fields.get("rate") else { return Rates::None };
    if !matches!(entry.value.value, Value::Map(_)) {
        return Rates::All(entry.clone());
    }
    let mut each = BTreeMap::new();
    for entry in checks::keys(r, entry) {
        if let Some(number) = number(r, &entry.key, &entry.key_span, catalogue) {
            each.insert(number, Entry { key: "rate".to_owned(), ..entry.clone() });
        }
    }
    Rates::Each(each)
}

impl Asked {
    fn named(&self, words: &[At<Word>], number: usize) -> Option<Span> {
        words.iter().find(|word| word.value == Word::Action(number)).map(|word| word.span.clone())
    }

    fn contradictions(&self, r: &mut Reader<'_>) {
        for word in &self.allow {
            if let Some(deny) = self.deny.iter().find(|deny| deny.value == word.value) {
                r.two_places(
                    "E052",
                    (&word.span, "allowed"),
                    (&deny.span, "and denied"),
                    "this is allowed and denied",
                );
            }
        }
        if let Rates::Each(rates) = &self.rates {
            for (number, entry) in rates {
                let allowed = self.picked(&self.allow).iter().any(|(own, _, _)| own == number);
                if !allowed {
                    let hint = "add it to `allow`, or remove its rate";
                    r.error_with("E052", &entry.key_span, "a rate for an action that is not allowed", hint);
                }
            }
        }
    }

    /// The actions that words mean, each once: number, where it is asked for, and whether by name.
    fn picked(&self, words: &[At<Word>]) -> Vec<(usize, Span, bool)> {
        let mut picked: Vec<(usize, Span, bool)> = Vec::new();
        for word in words {
            match &word.value {
                Word::Action(number) => picked.push((*number, word.span.clone(), true)),
                Word::Kind(kind) => {
                    let all = self.catalogue.actions.iter().enumerate();
                    for (number, _) in all.filter(|(_, action)| action.kind == *kind && !action.is_flagged())
                    {
                        if self.named(words, number).is_none() {
                            picked.push((number, word.span.clone(), false));
                        }
                    }
                }
            }
        }
        picked
    }

    /// For telling what a request is: where this policy's settings put it.
    fn own_catalogue(&self, r: &mut Reader<'_>, fields: Fields<'_>, at: &Span) -> Arc<Catalogue> {
        let given = fields.get("settings").filter(|_| self.settings.is_some());
        let Some(Entry { value: Node { value: Value::Map(given), .. }, .. }) = given else {
            return self.catalogue.clone();
        };
        let mut report = Report::default();
        let own = with_settings(&mut Reader::new(r.file, &mut report), &self.catalogue, given, at);
        // A setting that no action of `allow` needs is wrong all the same. Deny rules may be wider.
        if !self.allow.is_empty() {
            r.add(report);
        }
        Arc::new(own)
    }

    fn deny_rules(&self, r: &mut Reader<'_>, fields: Fields<'_>, document: &mut Document) {
        let extra: Vec<Entry> = OF_DENY.iter().filter_map(|name| fields.get(name)).cloned().collect();
        for (number, span, named) in self.picked(&self.deny) {
            let rules = self.rules(r, number, &span, named, Effect::Deny, &extra);
            document.deny.extend(rules);
        }
    }

    fn allow_rules(&self, r: &mut Reader<'_>, fields: Fields<'_>, document: &mut Document) {
        let extra: Vec<Entry> = OF_ALLOW.iter().filter_map(|name| fields.get(name)).cloned().collect();
        for (number, span, named) in self.picked(&self.allow) {
            // Blocked by name, so its kind does not mean it.
            if !named && self.picked(&self.deny).iter().any(|(denied, _, _)| *denied == number) {
                continue;
            }
            let rate = match &self.rates {
                Rates::None => None,
                Rates::All(entry) => Some(entry.clone()),
                Rates::Each(rates) => rates.get(&number).cloned(),
            };
            let extra: Vec<Entry> = extra.iter().cloned().chain(rate).collect();
            document.allow.extend(self.rules(r, number, &span, named, Effect::Allow, &extra));
        }
    }

    fn rules(
        &self,
        r: &mut Reader<'_>,
        number: usize,
        span: &Span,
        named: bool,
        effect: Effect,
        extra: &[Entry],
    ) -> Vec<RuleText> {
        let (Some(action), Some(settings)) = (self.catalogue.actions.get(number), &self.settings) else {
            return Vec::new();
        };
        // A deny rule is for every resource.
        let resources = match effect {
            Effect::Allow => self.resources.as_deref(),
            Effect::Deny => None,
        };
        if resources.is_some_and(<[Resource]>::is_empty) {
            // None of them could be read.
            return Vec::new();
        }
        // Deny rules see encoded slashes either way.
        let raw_path = effect == Effect::Allow && self.catalogue.raw_path;
        let extra_of = |endpoint: &Endpoint| {
            let raw = (raw_path && !endpoint.is_git()).then(|| Entry::said("raw_path", "true", span));
            extra.iter().cloned().chain(raw).collect::<Vec<Entry>>()
        };
        let mut texts = Vec::new();
        let (mut missing, mut said) = (None, false);
        for endpoint in self.endpoints(action, resources.is_some()) {
            match rules(
                &self.catalogue,
                endpoint,
                resources.unwrap_or_default(),
                settings,
                &extra_of(endpoint),
                span,
            ) {
                Ok(made) => {
                    for made in made {
                        said = true;
                        let name = At { value: self.entry.value.joined(&action.name), span: span.clone() };
                        let text = rule::read_named(r, &made.rule, effect, Some(name));
                        texts.extend(text.map(|text| RuleText {
                            action: Some(Arc::new(self.catalogue.rule_action(action, made.templates))),
                            ..text
                        }));
                    }
                }
                Err(setting) => missing = Some(setting),
            }
        }
        // A kind means what can be had; what is named has to be.
        if texts.is_empty() && named {
            // Left out of what the catalogue says, because a setting is optional and not given.
            let left_out = || {
                let mut absent = settings.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name);
                let named =
                    |name: &String| action.endpoints.iter().any(|own| needs(&self.catalogue, own, name));
                absent.find(|name| named(name)).cloned()
            };
            let missing = missing.or_else(|| if said { None } else { left_out() });
            self.complain(r, action, span, missing, resources.is_some(), said);
        }
        texts
    }

    /// With resources, those that say what they are about.
    fn endpoints<'a>(&'a self, action: &'a Action, scoped: bool) -> impl Iterator<Item = &'a Endpoint> {
        action.endpoints.iter().filter(move |endpoint| !scoped || self.catalogue.is_scoped(endpoint))
    }

    fn complain(
        &self,
        r: &mut Reader<'_>,
        action: &Action,
        span: &Span,
        missing: Option<String>,
        scoped: bool,
        said: bool,
    ) {
        let name = &action.name;
        match missing {
            Some(setting) => {
                let known = self.catalogue.settings.iter().find(|own| own.name == setting);
                let about = known.map_or(String::new(), |known| format!(" ({})", known.about));
                let example = known.and_then(crate::catalog::Setting::example).unwrap_or_default();
                let message = format!("`{name}` needs the setting `{setting}`{about}");
                r.error_with("E053", span, message, format!("write `settings: {{ {setting}: {example} }}`"));
            }
            None if scoped && self.endpoints(action, true).next().is_none() => {
                let message = format!("`{name}` is not about one resource, so `resources` cannot narrow it");
                let hint = format!(
                    "allow it in an entry of its own without `resources`: `{0}-all: {{ service: {0}, allow: [{name}] }}`",
                    self.catalogue.name
                );
                r.error_with("E054", span, message, hint);
            }
            // The rules were not correct, and that was said.
            None if said => {}
            None => {
                let message = format!("no request of `{name}` can be told by what is given here");
                r.error_with("E054", span, message, "name `resources` one by one, without `*`");
            }
        }
    }
}
