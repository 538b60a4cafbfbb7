//! What operators see of the log: how much is recorded, of what kind, and how far behind the sealing is. No names.

use db::Db;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{Decision, Entry, Error};

/// Counts of this process, and what the last [`Metrics::measure`] found.
#[derive(Debug, Default)]
pub struct Metrics {
    entries: Family<[(&'static str, &'static str); 2], Counter>,
    log_ins: Family<[(&'static str, &'static str); 1], Counter>,
    newest: Gauge,
    unsealed: Gauge,
}

impl Metrics {
    /// Adds them to a registry, which names the service.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "audit_entries",
            "Entries given to the audit log, by what they are about and what was decided",
            self.entries.clone(),
        );
        registry.register("log_ins", "Log-ins of people, service accounts and platform users", self.log_ins.clone());
        registry.register("audit_newest", "The number of the newest audit entry", self.newest.clone());
        registry.register(
            "audit_unsealed_entries",
            "Audit entries that are durable and not in a signed checkpoint yet",
            self.unsealed.clone(),
        );
    }

    /// Reads what only the database knows.
    pub async fn measure(&self, db: &Db) -> Result<(), Error> {
        let (_, highest) = db::audit::newest(db).await?;
        let sealed = db::audit::sealed(db).await?.map_or(0, |sealed| sealed.through);
        self.newest.set(highest);
        self.unsealed.set((highest - sealed).max(0));
        Ok(())
    }

    pub(crate) fn count(&self, entry: &Entry) {
        let decision = match entry.decision {
            Decision::Allowed => "allowed",
            Decision::Refused => "refused",
            Decision::None => "none",
        };
        self.entries.get_or_create(&[("area", area(&entry.action)), ("decision", decision)]).inc();
        let outcome = match entry.action.rsplit('.').next() {
            Some("loggedIn") => "accepted",
            Some("loginFailed") => "refused",
            _ => return,
        };
        self.log_ins.get_or_create(&[("outcome", outcome)]).inc();
    }
}

/// What an action is about: one of a few words, whatever the action is.
fn area(action: &str) -> &'static str {
    let first = action.split([':', '.']).next().unwrap_or_default();
    AREAS.into_iter().find(|area| *area == first).unwrap_or("other")
}

/// The first words of actions.
const AREAS: [&str; 11] =
    ["account", "publicCloudProject", "project", "job", "s3", "sts", "swift", "keystone", "operator", "audit", "iam"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_that_nobody_knows_makes_no_label_of_its_own() {
        for (action, expected) in [
            ("account:apiovh:me/get", "account"),
            ("s3:GetObject", "s3"),
            ("job.failed", "job"),
            ("../../x", "other"),
            ("", "other"),
        ] {
            assert_eq!(area(action), expected, "{action}");
        }
    }
}
