//! Why a decision is as it is: which policies spoke, which decided, which nearly spoke, and what would have to change.

use jiff::tz::TimeZone;
use serde::Serialize;

use super::{
    Condition, Effect, Failed, Iam, Leaf, Question, Ruling,
    circumstances::{Watched, week_day},
    condition::day_name,
    decide::Statement,
};
use crate::S3Step;

/// A decision, explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Whether it is allowed.
    pub allowed: bool,
    /// What decided; empty: nothing allows, or the account itself asks.
    pub deciding: Vec<Ruling>,
    /// All that spoke, what was overruled too.
    pub spoke: Vec<Ruling>,
    /// Policies that name the identity and do not speak, and why not; at most 50.
    pub missed: Vec<Missed>,
    /// What would have to change for the other outcome, one sentence each.
    pub change: Vec<String>,
    /// Of a call to the object store: what decided, of policies in the AWS language too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of a call to the object store: each statement in the AWS language that was looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<S3Step>,
}

/// A policy that does not speak.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missed {
    /// Which.
    #[serde(flatten)]
    pub ruling: Ruling,
    /// Why it does not.
    pub because: String,
}

impl Explanation {
    /// That of who is bound by no policy; `why` says it in a sentence.
    pub fn unbounded(why: &str) -> Explanation {
        Explanation {
            allowed: true,
            deciding: Vec::new(),
            spoke: Vec::new(),
            missed: Vec::new(),
            change: vec![format!("nothing: {why}, and no policy bounds it")],
            reason: None,
            steps: Vec::new(),
        }
    }

    /// That of who cannot get at it by any policy; `why` says it in a sentence.
    pub fn unreachable(why: String) -> Explanation {
        Explanation {
            allowed: false,
            deciding: Vec::new(),
            spoke: Vec::new(),
            missed: Vec::new(),
            change: vec!["nothing that a policy says changes it".to_owned()],
            reason: Some(why),
            steps: Vec::new(),
        }
    }
}

impl Iam {
    /// Decides and says why.
    pub fn explain(&self, question: &Question) -> Result<Explanation, Failed> {
        let verdict = self.decide(question)?;
        let allowed = verdict.allowed;
        let deciding: Vec<Ruling> = verdict.deciding.iter().map(|ruling| Ruling::clone(ruling)).collect();
        let spoke = self.spoke(question)?;
        let mut missed = Vec::new();
        // What concerns the action comes first, for it is the nearest.
        let mut others: Vec<(bool, usize)> = Vec::new();
        for number in self.naming(question.identities) {
            if spoke.binary_search(&number).is_err() {
                let statement = &self.statements[number];
                others.push((!names_action(statement, question.action), number));
            }
        }
        others.sort_unstable();
        for (_, number) in others.into_iter().take(MOST_MISSED) {
            let because = self.because(&self.statements[number], question)?;
            missed.push(Missed { ruling: self.ruling(number), because });
        }
        let spoke: Vec<Ruling> = spoke.into_iter().map(|number| self.ruling(number)).collect();
        let change = changes(allowed, &deciding, &missed, question);
        Ok(Explanation { allowed, deciding, spoke, missed, change, reason: None, steps: Vec::new() })
    }

    /// Why a statement that names the identity does not speak.
    fn because(&self, statement: &Statement, question: &Question) -> Result<String, Failed> {
        let [allow, except, _] = &*statement.permissions;
        if statement.effect == Effect::Allow && allow.matches(question.action) && except.matches(question.action) {
            return Ok(format!("its `except` cuts {} from its `allow`", question.action));
        }
        if !self.covers_action(statement, question.action) {
            let list = if statement.effect == Effect::Allow { "allow" } else { "deny" };
            return Ok(format!("its `{list}` does not name {}", question.action));
        }
        let groups = self.groups_of(question.resource);
        if !self.covers_resource(statement, question.resource, &groups) {
            return Ok(format!("its `resources` do not name {}", question.resource));
        }
        if let Some(end) = statement.expired_at.filter(|end| *end <= question.facts.at) {
            return Ok(format!("it expired at {end}"));
        }
        let leaves = statement.conditions.as_deref().map(Condition::leaves).unwrap_or_default();
        let watched = Watched::by([statement]);
        let zones = watched.zones()?;
        let mut found: Vec<String> = leaves.into_iter().map(|leaf| self.found(leaf, question, zones)).collect();
        found.dedup();
        Ok(format!("its conditions do not hold: {}", found.join("; ")))
    }

    /// What a leaf asks for and what there is.
    fn found(&self, leaf: &Leaf, question: &Question, zones: &[(String, TimeZone)]) -> String {
        match leaf {
            Leaf::Tag { name, value } => {
                let has = self.tags_of(question.resource).and_then(|tags| tags.get(name));
                let has = has.map_or_else(|| "absent".to_owned(), |has| format!("'{has}'"));
                format!("resource.Tag({name}) is {has}, asked for is '{value}'")
            }
            Leaf::WeekDay { zone, days } => {
                let known = zones.iter().find(|(name, _)| name == zone);
                let today = known.map_or("unknown", |(_, zone)| day_name(week_day(question.facts.at, zone)));
                let days: Vec<&str> = days.iter().map(|day| day_name(*day)).collect();
                format!("date({zone}).WeekDay is {today}, asked for is {}", days.join(","))
            }
            Leaf::Ip(block) => {
                let ip = question.facts.source_ip.map_or_else(|| "unknown".to_owned(), |ip| ip.to_string());
                format!("request.IP is {ip}, asked for is {block}")
            }
        }
    }
}

fn names_action(statement: &Statement, action: &str) -> bool {
    let [allow, _, deny] = &*statement.permissions;
    match statement.effect {
        Effect::Allow => allow.matches(action),
        Effect::Deny => deny.matches(action),
    }
}

fn changes(allowed: bool, deciding: &[Ruling], missed: &[Missed], question: &Question) -> Vec<String> {
    let named = |ruling: &Ruling| match &ruling.permissions_group {
        None => format!("policy '{}' ({})", ruling.name, ruling.policy),
        Some(group) => format!("permissions group {group} of policy '{}' ({})", ruling.name, ruling.policy),
    };
    let action = question.action;
    if allowed {
        let mut ways: Vec<String> =
            deciding.iter().map(|ruling| format!("to refuse it, {} must not allow {action}", named(ruling))).collect();
        if ways.len() > 1 {
            ways = vec![format!("to refuse it, none of these must allow {action}: {}", list(deciding, named))];
        }
        ways.push(format!("or a policy that names the identity and the resource denies {action}"));
        return ways;
    }
    if !deciding.is_empty() {
        let mut ways = vec![format!("to allow it, none of these may deny {action}: {}", list(deciding, named))];
        ways.push("and a policy must allow it, if none does yet".to_owned());
        return ways;
    }
    let near =
        missed.iter().filter(|miss| miss.ruling.effect == Effect::Allow && !miss.because.contains("does not name"));
    let mut ways: Vec<String> =
        near.map(|miss| format!("{} would allow it, but {}", named(&miss.ruling), miss.because)).collect();
    let who = question.identities.first().copied().unwrap_or_default();
    ways.push(format!("a policy must allow {action} on {} to {who} or a group that it is in", question.resource));
    ways
}

fn list(rulings: &[Ruling], named: impl Fn(&Ruling) -> String) -> String {
    rulings.iter().map(named).collect::<Vec<_>>().join(", ")
}

const MOST_MISSED: usize = 50;
