//! What owners of schedules are told of the engine version that their schedule names: 90, 30 and 7 days before its end of life,
//! and when it is withdrawn. Each once; what could not be told on its day is told late, and only the most urgent of it. So is an
//! account that came to own a schedule after its day.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use audit::{Actor, Entry};
use db::schedules::{self as rows, Untold};
use engine::Offer;
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use model::{AccountId, EngineVersion, Withdrawal};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Error, Inner, record, surroundings::Beside as _, versions, watch};

/// A cause to tell owners something of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Occasion {
    version: EngineVersion,
    /// What it is recorded by.
    name: String,
    /// Less urgent ones, which it makes needless.
    includes: Vec<String>,
    subject: String,
    text: String,
}

/// Tells owners what there is to be told, until `stop`. Schedules are looked at when an occasion is new, and each hour.
pub(crate) async fn run(jobs: &Arc<Inner>, stop: &CancellationToken) {
    let mut done: Option<(Vec<Occasion>, Instant)> = None;
    loop {
        match look(jobs, done.as_ref()).await {
            Ok(Some(occasions)) => done = Some((occasions, Instant::now())),
            Ok(None) => {}
            Err(cause) => {
                tracing::error!(cause = %watch::chain(&cause), "owners of schedules are not told of engine versions");
                done = None;
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(LOOK_AGAIN)).await.is_none() {
            return;
        }
    }
}

/// The occasions that owners were told of now; `None` where nothing is new.
async fn look(jobs: &Inner, done: Option<&(Vec<Occasion>, Instant)>) -> Result<Option<Vec<Occasion>>, Error> {
    let now = record::now();
    let occasions = occasions(jobs, now).await?;
    if done.is_some_and(|(known, at)| *known == occasions && at.elapsed() < EACH_HOUR) {
        return Ok(None);
    }
    tell(jobs, &occasions, now).await?;
    Ok(Some(occasions))
}

/// What there is to be told at a time.
pub(super) async fn occasions(jobs: &Inner, at: Timestamp) -> Result<Vec<Occasion>, Error> {
    let withdrawn = db::engines::withdrawals(&jobs.parts.db).await?;
    let offer = versions::offer(jobs, at).await?;
    let ends: Vec<(EngineVersion, Date)> =
        jobs.parts.engines.list().into_iter().map(|engine| (engine.version, engine.end_of_life)).collect();
    Ok(of(&ends, &withdrawn, &offer, at.to_zoned_datetime(TimeZone::UTC).date()))
}

fn of(ends: &[(EngineVersion, Date)], withdrawn: &[Withdrawal], offer: &Offer, today: Date) -> Vec<Occasion> {
    let mut occasions: Vec<Occasion> = withdrawn.iter().map(|withdrawal| of_withdrawal(withdrawal, offer)).collect();
    let others = ends.iter().filter(|(version, _)| !withdrawn.iter().any(|one| one.version == *version));
    occasions.extend(others.filter_map(|(version, end)| of_end(version, *end, offer, today)));
    occasions
}

fn of_withdrawal(withdrawal: &Withdrawal, offer: &Offer) -> Occasion {
    let version = &withdrawal.version;
    Occasion {
        version: version.clone(),
        name: format!("withdrawn at {}", withdrawal.at),
        includes: Vec::new(),
        subject: format!("Spark {version} is withdrawn"),
        text: format!(
            "Spark {version} was withdrawn on {}: {}.\n\nNo job on it is accepted any more. {}",
            withdrawal.at.to_zoned_datetime(TimeZone::UTC).date(),
            withdrawal.reason,
            instead(version, offer)
        ),
    }
}

/// The most urgent notice of the end of a version's life whose day has come.
fn of_end(version: &EngineVersion, end: Date, offer: &Offer, today: Date) -> Option<Occasion> {
    let left = today.until(end).ok()?.get_days();
    let due: Vec<i32> = NOTICES.into_iter().filter(|days| left <= *days).collect();
    let (most_urgent, others) = due.split_last()?;
    let name = |days: &i32| format!("{days} days before {end}");
    let (when, verb) = match left {
        ..=0 => (format!("ended on {end}"), "ended"),
        1 => (format!("ends on {end}, tomorrow"), "ends"),
        days => (format!("ends on {end}, in {days} days"), "ends"),
    };
    // The newest lives on, since there is nothing to go to.
    let lives_on = offer.instead_of(version).is_none_or(|other| other == version);
    let then = match lives_on {
        true => {
            "It is accepted for as long as no newer version is offered; its faults are not mended any more.".to_owned()
        }
        false => format!("From that day on no job on it is accepted. {}", instead(version, offer)),
    };
    Some(Occasion {
        version: version.clone(),
        name: name(most_urgent),
        includes: others.iter().map(name).collect(),
        subject: format!("The life of Spark {version} {verb} on {end}"),
        text: format!("The life of Spark {version} {when}. {then}"),
    })
}

fn instead(version: &EngineVersion, offer: &Offer) -> String {
    match offer.instead_of(version) {
        Some(other) if other != version => format!("Change your schedules to Spark {other}."),
        _ => "No other version is offered now.".to_owned(),
    }
}

/// Tells the owners of all schedules that name the versions, each account by one text for all that are its. One that cannot be
/// told does not keep the others from it; the first such error is the answer.
pub(super) async fn tell(jobs: &Inner, occasions: &[Occasion], at: Timestamp) -> Result<(), Error> {
    let mut failed = None;
    for occasion in occasions {
        let mut behind = None;
        loop {
            let untold = rows::untold(&jobs.parts.db, &occasion.version, &occasion.name, behind, BATCH).await?;
            let is_last = untold.len() < BATCH as usize;
            behind = untold.last().map(|schedule| schedule.schedule);
            let mut accounts: BTreeMap<AccountId, Vec<Untold>> = BTreeMap::new();
            for schedule in untold {
                accounts.entry(schedule.account.clone()).or_default().push(schedule);
            }
            for (account, schedules) in accounts {
                if let Err(cause) = tell_account(jobs, occasion, &account, &schedules, at).await {
                    tracing::error!(%account, cause = %watch::chain(&cause), "an owner of schedules is not told");
                    failed.get_or_insert(cause);
                }
            }
            if is_last {
                break;
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Writes that an account was told, and what.
async fn tell_account(
    jobs: &Inner,
    occasion: &Occasion,
    account: &AccountId,
    schedules: &[Untold],
    at: Timestamp,
) -> Result<(), Error> {
    let mut tx = jobs.parts.db.begin().await?;
    let mut named = Vec::new();
    for Untold { schedule, name, project, .. } in schedules {
        for included in &occasion.includes {
            rows::told(&mut tx, *schedule, account, &occasion.version, included, at).await?;
        }
        if rows::told(&mut tx, *schedule, account, &occasion.version, &occasion.name, at).await? {
            named.push(format!("- {name} ({schedule}), project {project}"));
        }
    }
    if named.is_empty() {
        return Ok(());
    }
    let body = format!("{}\n\nThese schedules of yours name it:\n\n{}\n", occasion.text, named.join("\n"));
    let told = jobs.parts.surroundings.tell(&mut tx, account, &occasion.subject, &body).await;
    told.beside("telling the owner of a schedule")?;
    let mut entry = Entry::new(Actor::system(), "engine.notice", format!("engine/spark-{}", occasion.version));
    entry.detail = json!({ "account": account, "occasion": occasion.name, "schedules": named.len() });
    jobs.parts.audit.record_in(&mut tx, &entry).await?;
    Ok(tx.commit().await?)
}

/// Days before the end of a life, least urgent first.
const NOTICES: [i32; 3] = [90, 30, 7];
const BATCH: u32 = 100;
/// How soon a withdrawal is told of.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
const EACH_HOUR: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn told(today: Date) -> Option<(String, usize, String)> {
        let version: EngineVersion = "3.5.9".parse().expect("a version");
        let offer = Offer { engines: Vec::new(), retired: Vec::new() };
        let found = of_end(&version, date(2027, 11, 24), &offer, today)?;
        Some((found.name, found.includes.len(), found.subject))
    }

    #[test]
    fn each_notice_has_its_day_and_a_later_one_includes_those_before() {
        assert_eq!(told(date(2027, 8, 25)), None);
        let subject = "The life of Spark 3.5.9 ends on 2027-11-24".to_owned();
        for (today, name, includes) in [
            (date(2027, 8, 26), "90 days before 2027-11-24", 0),
            (date(2027, 10, 24), "90 days before 2027-11-24", 0),
            (date(2027, 10, 25), "30 days before 2027-11-24", 1),
            (date(2027, 11, 17), "7 days before 2027-11-24", 2),
            (date(2027, 11, 23), "7 days before 2027-11-24", 2),
        ] {
            assert_eq!(told(today), Some((name.to_owned(), includes, subject.clone())), "{today}");
        }
        let late = told(date(2028, 1, 1)).expect("told late");
        assert_eq!(
            late,
            ("7 days before 2027-11-24".to_owned(), 2, "The life of Spark 3.5.9 ended on 2027-11-24".to_owned())
        );
    }
}
