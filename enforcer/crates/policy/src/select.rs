//! `select:`: which workloads are the agent.
//!
//! A policy without it leaves the choice to whoever starts or attaches something and names the agent. With
//! it, what is not selected is not the agent, whoever says so.
//!
//! Left out: how the facts of a workload are found out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::matcher::Glob;
use crate::policy::{AgentPolicy, PolicySet};

/// What is known of something that is to be an agent. What is not known is empty, and selected by nothing.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    /// `enforcer run` starts it.
    pub run: bool,
    /// Its cgroup from the root of the hierarchy: `/system.slice/worker.service`.
    pub cgroup: String,
    /// Everybody whom its processes run as.
    pub users: Vec<User>,
    pub container: Option<Container>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub name: Option<String>,
}

/// As its engine tells.
#[derive(Clone, Debug, Default)]
pub struct Container {
    pub image: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
}

/// One entry.
#[derive(Clone, Debug)]
pub(crate) enum Selector {
    /// what `enforcer run` starts
    Run,
    Unit(Glob),
    Slice(Box<str>),
    Cgroup {
        path: Box<str>,
        /// and all below it
        below: bool,
    },
    Uid(u32),
    User(Box<str>),
    /// What is said all holds.
    Container {
        image: Option<Glob>,
        name: Option<Glob>,
        labels: Vec<(Box<str>, Glob)>,
    },
}

/// Why no agent, or not the one that was named, is what is to be governed. In words for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unselected {
    pub message: String,
    pub hint: String,
}

impl Selector {
    fn takes(&self, workload: &Workload) -> bool {
        let is = |glob: &Glob, text: &str| glob.is(text) == Some(true);
        match self {
            Selector::Run => workload.run,
            Selector::Unit(unit) => unit_of(&workload.cgroup).is_some_and(|own| is(unit, own)),
            Selector::Slice(slice) => slices_of(&workload.cgroup).any(|own| own == &**slice),
            Selector::Cgroup { path, below } => match workload.cgroup.strip_prefix(&**path) {
                Some("") => true,
                Some(rest) => *below && rest.starts_with('/'),
                None => false,
            },
            Selector::Uid(uid) => all(&workload.users, |user| user.uid == *uid),
            Selector::User(name) => all(&workload.users, |user| user.name.as_deref() == Some(name)),
            Selector::Container { image, name, labels } => workload.container.as_ref().is_some_and(|own| {
                let said = |glob: &Option<Glob>, text: &str| glob.as_ref().is_none_or(|glob| is(glob, text));
                said(image, &own.image)
                    && said(name, &own.name)
                    && labels
                        .iter()
                        .all(|(key, glob)| own.labels.get(&**key).is_some_and(|value| is(glob, value)))
            }),
        }
    }
}

/// Nobody at all is not everybody.
fn all(users: &[User], is: impl Fn(&User) -> bool) -> bool {
    !users.is_empty() && users.iter().all(is)
}

fn parts(cgroup: &str) -> impl Iterator<Item = &str> {
    cgroup.split('/').filter(|part| !part.is_empty())
}

/// systemd puts a unit below its slices. What follows is a part of that unit, and may be named by whoever the unit's
/// cgroup was handed to: a unit of a user's own manager is no unit of the host's.
fn unit_of(cgroup: &str) -> Option<&str> {
    parts(cgroup).find(|part| !part.ends_with(".slice"))
}

fn slices_of(cgroup: &str) -> impl Iterator<Item = &str> {
    parts(cgroup).take_while(|part| part.ends_with(".slice"))
}

impl AgentPolicy {
    /// `None`: the policy has no `select`, and does not say.
    pub fn selects(&self, workload: &Workload) -> Option<bool> {
        let selectors = self.select.as_ref()?;
        Some(selectors.iter().any(|selector| selector.takes(workload)))
    }
}

impl PolicySet {
    /// The one agent that this workload is: the one that was named, unless its policy selects others, or else the only
    /// one that selects it. `Ok(None)`: no policy is for the agent that was named.
    pub fn choose(
        &self,
        named: Option<&str>,
        workload: &Workload,
    ) -> Result<Option<&Arc<AgentPolicy>>, Unselected> {
        let Some(name) = named else { return self.only(workload).map(Some) };
        let Some(policy) = self.agent(name) else { return Ok(None) };
        if policy.selects(workload) != Some(false) {
            return Ok(Some(policy));
        }
        let selected: Vec<String> = policy.select.iter().flatten().map(Selector::to_string).collect();
        let line = if workload.run { format!("`- run: {name}`") } else { "what it is".to_owned() };
        Err(Unselected {
            message: format!(
                "agent `{name}` is not this: its policy selects {}, and this is {workload}",
                selected.join(" or ")
            ),
            hint: format!("add {line} to `select` in its policy, or remove `select`"),
        })
    }

    fn only(&self, workload: &Workload) -> Result<&Arc<AgentPolicy>, Unselected> {
        let selecting: Vec<&Arc<AgentPolicy>> =
            self.agents().filter(|policy| policy.selects(workload) == Some(true)).collect();
        match selecting.as_slice() {
            [one] => Ok(one),
            [] => Err(Unselected {
                message: format!("no policy selects this, which is {workload}"),
                hint: "name the agent, or say so under `select` in its policy".to_owned(),
            }),
            several => {
                let names: Vec<&str> = several.iter().map(|policy| policy.name.as_str()).collect();
                Err(Unselected {
                    message: format!(
                        "the policies of {} all select this, which is {workload}",
                        names.join(", ")
                    ),
                    hint: "name one of them, or narrow `select` in the others".to_owned(),
                })
            }
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Run => f.write_str("what `enforcer run` starts"),
            Selector::Unit(unit) => write!(f, "unit {}", unit.text()),
            Selector::Slice(slice) => write!(f, "slice {slice}"),
            Selector::Cgroup { path, below } => {
                write!(f, "cgroup {path}{}", if *below { "/**" } else { "" })
            }
            Selector::Uid(uid) => write!(f, "user {uid}"),
            Selector::User(name) => write!(f, "user {name}"),
            Selector::Container { image, name, labels } => {
                f.write_str("containers")?;
                for (what, glob) in [("image", image), ("name", name)] {
                    if let Some(glob) = glob {
                        write!(f, " of {what} {}", glob.text())?;
                    }
                }
                labels.iter().try_for_each(|(key, glob)| write!(f, " with label {key}={}", glob.text()))
            }
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.run {
            f.write_str("started by `enforcer run`")?;
        } else {
            write!(f, "cgroup {}", self.cgroup.escape_debug())?;
        }
        if let Some(container) = &self.container {
            let Container { image, name, labels: _ } = container;
            write!(f, ", container {} of image {}", name.escape_debug(), image.escape_debug())?;
        }
        let users: Vec<String> =
            self.users.iter().map(|user| user.name.clone().unwrap_or(user.uid.to_string())).collect();
        if users.is_empty() {
            f.write_str(", without processes")
        } else {
            write!(f, ", as {}", users.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Source;

    fn set(policies: &[(&str, &str)]) -> PolicySet {
        let source = |(agent, select): &(&str, &str)| Source {
            name: format!("{agent}.yaml"),
            text: format!("version: 1\nagent: {agent}\n{select}\n"),
        };
        let sources: Vec<Source> = policies.iter().map(source).collect();
        PolicySet::compile(&sources).unwrap_or_else(|report| panic!("{report}")).set
    }

    fn at(cgroup: &str) -> Workload {
        Workload { cgroup: cgroup.to_owned(), ..Workload::default() }
    }

    fn by(users: &[(u32, Option<&str>)]) -> Workload {
        let user = |(uid, name): &(u32, Option<&str>)| User { uid: *uid, name: name.map(str::to_owned) };
        Workload { users: users.iter().map(user).collect(), ..at("/x") }
    }

    fn in_container(image: &str, name: &str, labels: &[(&str, &str)]) -> Workload {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let container = Container { image: image.to_owned(), name: name.to_owned(), labels };
        Workload { container: Some(container), ..at("/docker/x") }
    }

    #[test]
    fn each_selector_takes_what_it_says_and_nothing_near() {
        let run = Workload { run: true, ..by(&[(61_184, None)]) };
        for (select, workload, expected) in [
            ("run: bot", run.clone(), true),
            ("run: bot", at("/bot"), false),
            ("unit: worker.service", at("/system.slice/worker.service"), true),
            ("unit: worker.service", at("/system.slice/worker.service/child"), true),
            ("unit: worker.service", at("/a.slice/a-b.slice/worker.service"), true),
            ("unit: worker.service", at("/worker.service"), true),
            ("unit: worker.service", at("/system.slice/worker2.service"), false),
            ("unit: worker.service", at("/system.slice"), false),
            ("unit: worker.service", at(""), false),
            // Whoever has a part of the tree names what is in it.
            (
                "unit: worker.service",
                at("/user.slice/user-1.slice/user@1.service/app.slice/worker.service"),
                false,
            ),
            ("unit: worker.service", at("/system.slice/docker-1.scope/system.slice/worker.service"), false),
            ("unit: worker@*.service", at("/system.slice/worker@7.service"), true),
            ("unit: worker@*.service", at("/system.slice/worker.service"), false),
            ("unit: job.scope", run.clone(), false),
            ("slice: agents.slice", at("/agents.slice/x.service"), true),
            ("slice: agents.slice", at("/agents.slice"), true),
            ("slice: agents.slice", at("/a.slice/agents.slice/agents-x.slice/y"), true),
            ("slice: agents.slice", at("/agents2.slice/x"), false),
            ("slice: agents.slice", at("/user.slice/user@1.service/agents.slice/x"), false),
            ("cgroup: /a/b", at("/a/b"), true),
            ("cgroup: /a/b", at("/a/b/c"), false),
            ("cgroup: /a/b", at("/a/bc"), false),
            ("cgroup: /a/b/**", at("/a/b"), true),
            ("cgroup: /a/b/**", at("/a/b/c/d"), true),
            ("cgroup: /a/b/**", at("/a/bc"), false),
            ("cgroup: /a/b/**", at(""), false),
            ("user: 1001", by(&[(1001, None)]), true),
            ("user: 1001", by(&[(1001, Some("deploy"))]), true),
            ("user: deploy", by(&[(1001, Some("deploy"))]), true),
            ("user: deploy", by(&[(1001, None)]), false),
            ("user: deploy", by(&[(1001, Some("deploy")), (0, Some("root"))]), false),
            ("user: deploy", by(&[]), false),
            ("user: 61184", run, true),
            ("container: { name: web }", in_container("a", "web", &[]), true),
            ("container: { name: \"web-*\" }", in_container("a", "web-1", &[]), true),
            ("container: { name: web }", at("/docker/web"), false),
            (
                "container: { image: \"r.example/agents/*:**\" }",
                in_container("r.example/agents/x:1", "w", &[]),
                true,
            ),
            (
                "container: { image: \"r.example/agents/*:**\" }",
                in_container("evil/r.example/agents/x:1", "w", &[]),
                false,
            ),
            ("container: { image: a, name: web }", in_container("b", "web", &[]), false),
            ("container: { labels: { role: helper } }", in_container("a", "w", &[("role", "helper")]), true),
            (
                "container: { labels: { role: helper, x: \"1\" } }",
                in_container("a", "w", &[("role", "helper")]),
                false,
            ),
            (
                "container: { labels: { role: helper } }",
                in_container("a", "w", &[("role", "helper2")]),
                false,
            ),
        ] {
            let set = set(&[("bot", &format!("select: [{{ {select} }}]"))]);
            let policy = set.agent("bot").unwrap();
            assert_eq!(policy.selects(&workload), Some(expected), "{select}: {workload}");
            assert_eq!(set.choose(Some("bot"), &workload).is_ok(), expected, "{select}: {workload}");
            assert_eq!(set.choose(None, &workload).is_ok(), expected, "{select}: {workload}");
        }
    }

    #[test]
    fn one_agent_or_none() {
        let set = set(&[
            ("a", "select: [{ slice: x.slice }, { run: a }]"),
            ("b", "select: [{ cgroup: /x.slice/b.service }]"),
            ("c", ""),
        ]);
        let chosen = |named, cgroup: &str| match set.choose(named, &at(cgroup)) {
            Ok(policy) => policy.map_or_else(|| "unknown".to_owned(), |policy| policy.name.to_string()),
            Err(Unselected { message, hint }) => format!("{message} ({hint})"),
        };
        assert_eq!(chosen(None, "/x.slice/a.service"), "a");
        assert_eq!(chosen(Some("b"), "/x.slice/b.service"), "b");
        assert_eq!(chosen(Some("c"), "/y"), "c");
        assert_eq!(chosen(Some("d"), "/y"), "unknown");
        assert_eq!(
            chosen(None, "/x.slice/b.service"),
            "the policies of a, b all select this, which is cgroup /x.slice/b.service, without processes \
             (name one of them, or narrow `select` in the others)"
        );
        assert_eq!(
            chosen(None, "/y"),
            "no policy selects this, which is cgroup /y, without processes \
             (name the agent, or say so under `select` in its policy)"
        );
        assert_eq!(
            chosen(Some("a"), "/y"),
            "agent `a` is not this: its policy selects slice x.slice or what `enforcer run` starts, and this is cgroup /y, \
             without processes (add what it is to `select` in its policy, or remove `select`)"
        );
    }
}
