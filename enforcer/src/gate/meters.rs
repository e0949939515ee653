//! Which counters a request takes from, and how it reads when there is nothing left.

use std::sync::Arc;

use enforcer_policy::{AgentPolicy, Host, Request, Rule, Template};

use super::limit::{Counter, Key, Limit, Limits, Meter, NotTaken, Uncountable};
use super::{Code, No};

/// Those of the agent and those of the rule; where a rate counts by parts of the path, by what stands
/// there.
pub(super) fn rates(
    policy: &AgentPolicy,
    rule: &Rule,
    template: &Template,
    request: &Request,
) -> Result<Vec<Counter>, No> {
    let agent = &policy.name;
    let of_agent = policy.rates().iter().map(|rate| {
        Ok(Key { agent: agent.clone(), rule: None, limit: Limit::Requests(rate.clone()), value: None })
    });
    let of_rule = rule.rates.iter().map(|rate| {
        let value = value(&rate.per, template, request.target.path())?;
        let rule = Some(rule.name.clone());
        Ok(Key { agent: agent.clone(), rule, limit: Limit::Requests(rate.clone()), value })
    });
    of_agent.chain(of_rule).map(|key| Counter::new(key?).map_err(uncountable)).collect()
}

/// For a connection in which no request is seen.
pub(super) fn connection_rates(policy: &AgentPolicy, rule: &Rule) -> Result<Vec<Counter>, No> {
    let of_agent = policy.rates().iter().map(|rate| (None, rate));
    let of_rule = rule.rates.iter().map(|rate| (Some(rule.name.clone()), rate));
    let keys = of_agent.chain(of_rule).map(|(rule, rate)| {
        let agent = policy.name.clone();
        Key { agent, rule, limit: Limit::Requests(rate.clone()), value: None }
    });
    keys.map(|key| Counter::new(key).map_err(uncountable)).collect()
}

/// Joined values cannot be taken for others: a `/` in one of them is written as it stands in the path.
fn value(per: &[Box<str>], template: &Template, path: &str) -> Result<Option<String>, No> {
    if per.is_empty() {
        return Ok(None);
    }
    let captured = |name: &str| Some(template.captured(path, name)?.replace('/', "%2F"));
    let values: Option<Vec<String>> = per.iter().map(|name| captured(name)).collect();
    match values {
        Some(values) => Ok(Some(values.join("/"))),
        // The compiler checks that the names are there.
        None => {
            let reason = "the rate of this rule counts by a part of the path that is not there".to_owned();
            Err(No::because(Code::UnusableRate, reason))
        }
    }
}

/// For what is sent and for what comes back.
pub(super) fn budgets(limits: &Arc<Limits>, policy: &AgentPolicy, host: &Host) -> Result<(Meter, Meter), No> {
    let meter = |budgets: &[enforcer_policy::Budget], limit: fn(enforcer_policy::Budget) -> Limit| {
        let counters = budgets.iter().map(|budget| {
            let value = budget.per_host.then(|| host.to_string());
            let agent = policy.name.clone();
            Counter::new(Key { agent, rule: None, limit: limit(budget.clone()), value }).map_err(uncountable)
        });
        Ok(Meter::new(limits.clone(), counters.collect::<Result<_, No>>()?))
    };
    Ok((meter(policy.upload(), Limit::Upload)?, meter(policy.download(), Limit::Download)?))
}

fn uncountable(error: Uncountable) -> No {
    No::because(Code::UnusableRate, error.to_string())
}

pub(super) fn not_taken(not: NotTaken) -> No {
    No { retry_after: not.wait(), ..No::because(not.code(), not.to_string()) }
}
