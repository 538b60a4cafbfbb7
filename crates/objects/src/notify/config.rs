//! The rules by which a bucket tells of its changes: read from what S3 clients send, checked, and written back
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketNotificationConfiguration.html>).

use std::collections::HashSet;

use s3s::{
    S3Result,
    dto::{
        Event, FilterRule, FilterRuleName, NotificationConfiguration, NotificationConfigurationFilter,
        QueueConfiguration, S3KeyFilter, TopicConfiguration,
    },
    s3_error,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::event::What;

/// A rule of a bucket: which events of which keys go to which webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name, which no other rule of the bucket has.
    pub id: String,
    /// As what the client named the webhook.
    pub destination: Destination,
    /// The name of the webhook.
    pub webhook: String,
    /// As the client named them, such as `s3:ObjectCreated:*`.
    pub events: Vec<String>,
    /// What keys begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// What keys end with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
}

/// As what a client names a webhook. It makes no difference for what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Destination {
    Queue,
    Topic,
}

impl Destination {
    fn arn_prefix(self) -> &'static str {
        match self {
            Destination::Queue => "arn:casemate:sqs:::",
            Destination::Topic => "arn:casemate:sns:::",
        }
    }
}

impl Rule {
    /// Whether an event of a key is sent by it.
    pub fn is_for(&self, what: What, key: &str) -> bool {
        self.events.iter().any(|event| means(event, what))
            && self.prefix.as_deref().is_none_or(|prefix| key.starts_with(prefix))
            && self.suffix.as_deref().is_none_or(|suffix| key.ends_with(suffix))
    }

    /// Whether some event of some key could be sent by both.
    fn overlaps(&self, other: &Rule) -> bool {
        let (a, b) = (self.prefix.as_deref().unwrap_or(""), other.prefix.as_deref().unwrap_or(""));
        let (y, z) = (self.suffix.as_deref().unwrap_or(""), other.suffix.as_deref().unwrap_or(""));
        let shared = |what: &What| {
            let of = |rule: &Rule| rule.events.iter().any(|event| means(event, *what));
            of(self) && of(other)
        };
        (a.starts_with(b) || b.starts_with(a)) && (y.ends_with(z) || z.ends_with(y)) && What::ALL.iter().any(shared)
    }
}

/// Whether the name of an event in a rule means what happened.
fn means(event: &str, what: What) -> bool {
    let Some(event) = event.strip_prefix("s3:") else { return false };
    match event.strip_suffix('*') {
        Some(start) => what.name().starts_with(start),
        None => what.name() == event,
    }
}

/// The rules that a client sent. No rules are none.
pub fn read(sent: NotificationConfiguration) -> S3Result<Vec<Rule>> {
    if sent.event_bridge_configuration.is_some() {
        return Err(s3_error!(NotImplemented, "events are sent to webhooks, and not to EventBridge"));
    }
    if sent.lambda_function_configurations.is_some_and(|list| !list.is_empty()) {
        return Err(s3_error!(NotImplemented, "events are sent to webhooks, and not to functions"));
    }
    let mut rules = Vec::new();
    for QueueConfiguration { events, filter, id, queue_arn } in sent.queue_configurations.unwrap_or_default() {
        rules.push(rule(Destination::Queue, &queue_arn, events, filter, id)?);
    }
    for TopicConfiguration { events, filter, id, topic_arn } in sent.topic_configurations.unwrap_or_default() {
        rules.push(rule(Destination::Topic, &topic_arn, events, filter, id)?);
    }
    Ok(rules)
}

fn rule(
    destination: Destination,
    arn: &str,
    events: Vec<Event>,
    filter: Option<NotificationConfigurationFilter>,
    id: Option<String>,
) -> S3Result<Rule> {
    let webhook = arn.strip_prefix(destination.arn_prefix()).filter(|name| !name.is_empty());
    let webhook = webhook.ok_or_else(|| s3_error!(InvalidArgument, "The ARN is not well formed"))?.to_owned();
    if events.is_empty() {
        return Err(s3_error!(MalformedXML, "a configuration names at least one event"));
    }
    let events: Vec<String> = events.iter().map(|event| event.as_ref().to_owned()).collect();
    for event in &events {
        let is_whole = event.matches('*').count() <= 1 && (!event.contains('*') || event.ends_with(":*"));
        if is_whole && What::ALL.iter().any(|what| means(event, *what)) && event != "s3:*" {
            continue;
        }
        return Err(match ELSEWHERE.iter().any(|known| event.starts_with(known)) {
            true => s3_error!(NotImplemented, "there are no events {event} here"),
            false => s3_error!(InvalidArgument, "A specified event is not supported for notifications."),
        });
    }
    let (mut prefix, mut suffix) = (None, None);
    for FilterRule { name, value } in filter.and_then(|filter| filter.key?.filter_rules).unwrap_or_default() {
        // Clients write `Prefix` too, as AWS does when it answers.
        let name = name.map(|name| name.as_str().to_ascii_lowercase());
        let place = match name.as_deref() {
            Some(FilterRuleName::PREFIX) => &mut prefix,
            Some(FilterRuleName::SUFFIX) => &mut suffix,
            _ => return Err(s3_error!(InvalidArgument, "filter rule name must be either prefix or suffix")),
        };
        if place.replace(value.unwrap_or_default()).is_some() {
            return Err(s3_error!(
                InvalidArgument,
                "Cannot specify more than one prefix rule or more than one suffix rule in a filter."
            ));
        }
    }
    let id = id.filter(|id| !id.is_empty()).unwrap_or_else(|| Uuid::now_v7().to_string());
    Ok(Rule { id, destination, webhook, events, prefix, suffix })
}

/// Says why rules cannot be, where `knows` says which webhooks there are.
pub fn check(rules: &[Rule], knows: impl Fn(&str) -> bool) -> S3Result<()> {
    if rules.len() > MOST_RULES {
        return Err(s3_error!(InvalidArgument, "there are at most {MOST_RULES} configurations of notifications"));
    }
    let mut ids = HashSet::new();
    for (at, rule) in rules.iter().enumerate() {
        if rule.id.chars().count() > LONGEST_ID {
            return Err(s3_error!(InvalidArgument, "the id of a configuration has at most {LONGEST_ID} characters"));
        }
        if !ids.insert(rule.id.as_str()) {
            return Err(s3_error!(InvalidArgument, "Same ID used for multiple configurations. IDs must be unique."));
        }
        if [&rule.prefix, &rule.suffix].into_iter().flatten().any(|part| part.len() > LONGEST_FILTER) {
            return Err(s3_error!(InvalidArgument, "Size of filter rule value cannot exceed 1024 bytes in UTF-8."));
        }
        if !knows(&rule.webhook) {
            return Err(s3_error!(InvalidArgument, "Unable to validate the following destination configurations"));
        }
        if rules[..at].iter().any(|other| rule.overlaps(other)) {
            return Err(s3_error!(
                InvalidArgument,
                "Configurations overlap. Configurations on the same bucket cannot share a common event type."
            ));
        }
    }
    Ok(())
}

/// Rules as S3 clients read them.
pub fn to_s3(rules: Vec<Rule>) -> (Option<Vec<QueueConfiguration>>, Option<Vec<TopicConfiguration>>) {
    let (mut queues, mut topics) = (Vec::new(), Vec::new());
    for Rule { id, destination, webhook, events, prefix, suffix } in rules {
        let arn = format!("{}{webhook}", destination.arn_prefix());
        let events = events.into_iter().map(Event::from).collect();
        let named = [(FilterRuleName::PREFIX, prefix), (FilterRuleName::SUFFIX, suffix)];
        let list: Vec<FilterRule> = named
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .map(|(name, value)| FilterRule { name: Some(FilterRuleName::from_static(name)), value: Some(value) })
            .collect();
        let filter = (!list.is_empty())
            .then_some(NotificationConfigurationFilter { key: Some(S3KeyFilter { filter_rules: Some(list) }) });
        match destination {
            Destination::Queue => queues.push(QueueConfiguration { events, filter, id: Some(id), queue_arn: arn }),
            Destination::Topic => topics.push(TopicConfiguration { events, filter, id: Some(id), topic_arn: arn }),
        }
    }
    (Some(queues).filter(|list| !list.is_empty()), Some(topics).filter(|list| !list.is_empty()))
}

/// Events that S3 has, of what this store has not or does not tell of.
const ELSEWHERE: [&str; 8] = [
    "s3:ReducedRedundancyLostObject",
    "s3:ObjectRestore:",
    "s3:Replication:",
    "s3:LifecycleTransition",
    "s3:IntelligentTiering",
    "s3:ObjectTagging:",
    "s3:ObjectAcl:",
    "s3:TestEvent",
];
/// Of AWS.
const MOST_RULES: usize = 100;
/// Of AWS.
const LONGEST_ID: usize = 255;
/// Of AWS.
const LONGEST_FILTER: usize = 1024;
