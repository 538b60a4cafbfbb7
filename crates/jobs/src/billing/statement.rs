//! A month's statement of a project: a pure function of its runs, the price list, its failed jobs and its corrections.
//! It is computed whenever it is asked for, from the very rows that say what ran: so its sum is that of the jobs.

use db::billing::{Correction as Row, Failed, Run};
use jiff::{SignedDuration, Timestamp};
use model::{AttemptNo, Blame, Cores, JobId, MiB};
use rust_decimal::{Decimal, RoundingStrategy};

use super::{Month, Price, price::stored};
use crate::Error;

/// What a project owes for a month.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// Which month.
    pub month: Month,
    /// ISO 4217; `None` where there is no price.
    pub currency: Option<String>,
    /// What ran, at which price.
    pub lines: Vec<Line>,
    /// The jobs that failed, whose fault it was, and what is credited for it.
    pub failures: Vec<Failure>,
    /// What was added by hand.
    pub corrections: Vec<Correction>,
    /// Sum of the lines.
    pub charged: Decimal,
    /// Sum of the credits.
    pub credited: Decimal,
    /// Sum of the corrections.
    pub corrected: Decimal,
    /// What is left: charged, less what is credited, with what was corrected. Exact.
    pub total: Decimal,
}

/// Minutes of one attempt at one price.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The job.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// Where it ran.
    pub region: String,
    /// Which attempt.
    pub attempt: AttemptNo,
    /// What it asked for.
    pub cores: Cores,
    /// What it asked for, overhead included.
    pub memory: MiB,
    /// When the first of the minutes began.
    pub from: Timestamp,
    /// How many minutes were started.
    pub minutes: u64,
    /// Whether more may come.
    pub runs: bool,
    /// At which price; `None` before the price list begins.
    pub price: Option<Price>,
    /// What they cost.
    pub amount: Decimal,
}

/// A job that failed (JOB-10).
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The job.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// The attempt that it failed in.
    pub attempt: u32,
    /// When.
    pub ended: Timestamp,
    /// Whose fault it was.
    pub blame: Blame,
    /// What shows that.
    pub evidence: String,
    /// What is credited, part by part; empty where it was the job's own fault, or cost nothing this month.
    pub credits: Vec<Credit>,
    /// Sum of the credits.
    pub credited: Decimal,
}

/// A part of a credit: minutes of one line.
#[derive(Debug, Clone, PartialEq)]
pub struct Credit {
    /// Of which attempt.
    pub attempt: AttemptNo,
    /// How many minutes.
    pub minutes: u64,
    /// What they had cost.
    pub amount: Decimal,
}

/// An amount that was added by hand.
#[derive(Debug, Clone, PartialEq)]
pub struct Correction {
    /// Its number.
    pub id: i64,
    /// The job that it is about, if any.
    pub job: Option<JobId>,
    /// How much; negative for a refund.
    pub amount: Decimal,
    /// Why.
    pub why: String,
    /// When it was made.
    pub created: Timestamp,
}

impl Statement {
    /// The statement of `month` as it stands at `now`.
    pub(super) fn of(
        month: Month,
        now: Timestamp,
        prices: &[Price],
        runs: &[Run],
        failed: &[Failed],
        corrections: Vec<Row>,
    ) -> Result<Statement, Error> {
        let mut lines = Vec::new();
        for run in runs {
            add_lines(&mut lines, run, month, now, prices)?;
        }
        let failures = failed.iter().map(|job| failure(job, &lines)).collect::<Result<Vec<_>, _>>()?;
        let corrections = corrections.into_iter().map(correction).collect::<Result<Vec<_>, _>>()?;
        let charged = sum(lines.iter().map(|line| line.amount))?;
        let credited = sum(failures.iter().map(|failure| failure.credited))?;
        let corrected = sum(corrections.iter().map(|correction| correction.amount))?;
        let total = sum([charged, -credited, corrected])?;
        let currency = prices.last().map(|price| price.currency.clone());
        Ok(Statement { month, currency, lines, failures, corrections, charged, credited, corrected, total })
    }

    /// The total in whole hundredths, halves up: what is paid.
    pub fn payable(&self) -> Decimal {
        self.total.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero)
    }
}

/// The minutes of a run that began in the month, a line for each price.
fn add_lines(lines: &mut Vec<Line>, run: &Run, month: Month, now: Timestamp, prices: &[Price]) -> Result<(), Error> {
    let started = started_minutes(run.started, run.ended.unwrap_or(now));
    let mut from = month.start();
    while from < month.end() {
        let price = prices.iter().rev().find(|price| price.since <= from);
        let change = prices.iter().map(|price| price.since).find(|since| *since > from);
        let to = change.map_or(month.end(), |change| change.min(month.end()));
        let first = minutes_before(run.started, from).min(started);
        let minutes = minutes_before(run.started, to).min(started) - first;
        if minutes > 0 {
            let offset = SignedDuration::from_mins(i64::try_from(first).unwrap_or(i64::MAX));
            lines.push(Line {
                job: run.job,
                name: run.name.clone(),
                region: run.region.clone(),
                attempt: run.attempt,
                cores: run.cores,
                memory: run.memory,
                from: run.started.checked_add(offset).unwrap_or(run.started),
                minutes,
                runs: run.ended.is_none(),
                price: price.cloned(),
                amount: match price {
                    Some(price) => price.amount(minutes, run.cores, run.memory)?,
                    None => Decimal::ZERO,
                },
            });
        }
        from = to;
    }
    Ok(())
}

/// How many minutes a run started. One that ends as soon as it has begun has started one.
fn started_minutes(started: Timestamp, ended: Timestamp) -> u64 {
    minutes_before(started, ended).max(1)
}

/// How many minutes of a run that started at `started` began before `moment`.
fn minutes_before(started: Timestamp, moment: Timestamp) -> u64 {
    const MINUTE: u128 = 60_000_000_000;
    let nanoseconds = u128::try_from(moment.as_nanosecond() - started.as_nanosecond()).unwrap_or(0);
    u64::try_from(nanoseconds.div_ceil(MINUTE)).unwrap_or(u64::MAX)
}

/// What a failed job is credited: what its last minutes of the month had cost, five hours at the most, where the platform
/// was at fault.
fn failure(job: &Failed, lines: &[Line]) -> Result<Failure, Error> {
    let (blame, evidence) = match &job.reason {
        Some(reason) => (reason.blame(), format!("attempt {}: {reason}", job.attempt)),
        None => (Blame::Platform, format!("attempt {}: no reason is on record", job.attempt)),
    };
    let mut credits = Vec::new();
    let mut left = match blame {
        Blame::Platform => MOST_CREDITED,
        Blame::Job => 0,
    };
    // An attempt that failed by the job's own fault, and was tried again, is not given back.
    let of_attempt = |line: &&Line| line.job == job.job && line.attempt.0 == job.attempt && line.amount > Decimal::ZERO;
    for line in lines.iter().rev().filter(of_attempt) {
        let minutes = line.minutes.min(left);
        left -= minutes;
        if let Some(price) = line.price.as_ref().filter(|_| minutes > 0) {
            let amount = price.amount(minutes, line.cores, line.memory)?;
            credits.push(Credit { attempt: line.attempt, minutes, amount });
        }
    }
    let credited = sum(credits.iter().map(|credit| credit.amount))?;
    Ok(Failure {
        job: job.job,
        name: job.name.clone(),
        attempt: job.attempt,
        ended: job.ended,
        blame,
        evidence,
        credits,
        credited,
    })
}

fn correction(row: Row) -> Result<Correction, Error> {
    let Row { id, job, amount, why, created } = row;
    Ok(Correction { id, job, amount: stored("corrections.amount", &amount)?, why, created })
}

fn sum(amounts: impl IntoIterator<Item = Decimal>) -> Result<Decimal, Error> {
    let sum = amounts.into_iter().try_fold(Decimal::ZERO, |sum, amount| sum.checked_add(amount));
    Ok(sum.ok_or(Error::Overflow)?.normalize())
}

/// Minutes of a job that are credited at the most: five hours (JOB-10).
const MOST_CREDITED: u64 = 5 * 60;

#[cfg(test)]
mod tests {
    use model::EndReason;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn amount(text: &str) -> Decimal {
        Decimal::from_str_exact(text).expect("an amount")
    }

    fn price(since: &str, core_minute: &str, gib_minute: &str) -> Price {
        Price::parse(at(since), "EUR", core_minute, gib_minute).expect("a price")
    }

    fn run(job: u128, started: &str, ended: Option<&str>) -> Run {
        Run {
            job: JobId(Uuid::from_u128(job)),
            name: "n".to_owned(),
            region: "GRA".to_owned(),
            attempt: AttemptNo(1),
            cores: Cores(3),
            memory: MiB(1536),
            started: at(started),
            ended: ended.map(at),
        }
    }

    fn failed(job: u128, reason: EndReason) -> Failed {
        Failed {
            job: JobId(Uuid::from_u128(job)),
            name: "n".to_owned(),
            attempt: 1,
            ended: at("2026-11-20T00:00:00Z"),
            reason: Some(reason),
        }
    }

    fn statement(prices: &[Price], runs: &[Run], failed: &[Failed]) -> Statement {
        let month = "2026-11".parse().expect("a month");
        Statement::of(month, at("2026-11-30T12:00:00Z"), prices, runs, failed, Vec::new()).expect("a statement")
    }

    const LIST: &str = "2026-01-01T00:00:00Z";

    #[test]
    fn each_started_minute_is_charged() {
        let prices = [price(LIST, "0.01", "0.004")];
        let minutes = |ended: &str| {
            let shown = statement(&prices, &[run(1, "2026-11-10T08:00:00.5Z", Some(ended))], &[]);
            // 3 cores and 1.5 GiB: 0.036 a minute.
            assert_eq!(shown.total, amount("0.036") * Decimal::from(shown.lines[0].minutes));
            shown.lines[0].minutes
        };
        assert_eq!(minutes("2026-11-10T08:00:00.5Z"), 1);
        assert_eq!(minutes("2026-11-10T08:01:00.5Z"), 1);
        assert_eq!(minutes("2026-11-10T08:01:00.500001Z"), 2);
        assert_eq!(minutes("2026-11-10T09:00:00Z"), 60);
    }

    #[test]
    fn a_minute_costs_what_it_cost_when_it_began() {
        let prices = [price(LIST, "0.01", "0"), price("2026-11-10T08:01:00Z", "0.02", "0")];
        let shown = statement(&prices, &[run(1, "2026-11-10T08:00:30Z", Some("2026-11-10T08:03:00Z"))], &[]);
        let lines: Vec<_> = shown.lines.iter().map(|line| (line.minutes, line.amount)).collect();
        assert_eq!(lines, [(1, amount("0.03")), (2, amount("0.12"))]);
        assert_eq!(shown.lines[1].from, at("2026-11-10T08:01:30Z"));
    }

    #[test]
    fn what_ran_before_there_was_a_price_is_shown_and_costs_nothing() {
        let shown = statement(&[], &[run(1, "2026-11-10T08:00:00Z", None)], &[]);
        assert!(shown.lines[0].price.is_none() && shown.lines[0].runs && shown.lines[0].minutes > 0);
        assert_eq!((shown.total, shown.currency), (Decimal::ZERO, None));
    }

    #[test]
    fn a_job_that_the_platform_lost_is_credited_five_hours_at_the_most() {
        let prices = [price(LIST, "0.01", "0")];
        let lost = EndReason::Platform { detail: "the shim was lost".to_owned() };
        let short = run(1, "2026-11-19T23:00:00Z", Some("2026-11-20T00:00:00Z"));
        let long = run(2, "2026-11-01T00:00:00Z", Some("2026-11-20T00:00:00Z"));
        let shown = statement(&prices, &[short, long], &[failed(1, lost.clone()), failed(2, lost)]);
        assert_eq!(shown.failures[0].credited, amount("1.8"), "all of an hour");
        assert_eq!(shown.failures[1].credited, amount("9"), "five hours of nineteen days");
        assert_eq!(shown.failures[1].evidence, "attempt 1: lost by the platform: the shim was lost");
        assert_eq!(shown.total, shown.charged - amount("10.8"));
    }

    #[test]
    fn a_job_that_failed_by_itself_is_credited_nothing() {
        let prices = [price(LIST, "0.01", "0")];
        let own = [
            EndReason::Exited { return_code: 1 },
            EndReason::Signalled { signal: 11 },
            EndReason::OutOfMemory { detail: String::new() },
            EndReason::OutOfDisk { detail: String::new() },
            EndReason::CannotStart { detail: String::new() },
        ];
        for reason in own {
            let ran = run(1, "2026-11-19T23:00:00Z", Some("2026-11-20T00:00:00Z"));
            let shown = statement(&prices, &[ran], &[failed(1, reason.clone())]);
            assert_eq!((shown.failures[0].blame, shown.failures[0].credited), (Blame::Job, Decimal::ZERO), "{reason}");
        }
    }

    #[test]
    fn only_what_was_paid_this_month_is_credited() {
        let prices = [price(LIST, "0.01", "0")];
        let lost = EndReason::Platform { detail: String::new() };
        let ran = run(1, "2026-10-01T00:00:00Z", Some("2026-11-01T00:10:00Z"));
        let shown = statement(&prices, &[ran], &[failed(1, lost)]);
        assert_eq!((shown.charged, shown.failures[0].credited), (amount("0.3"), amount("0.3")));
    }

    #[test]
    fn what_is_paid_is_rounded_once() {
        let prices = [price(LIST, "0.001667", "0")];
        let runs: Vec<Run> = (1..=3).map(|job| run(job, LIST_MINUTE, Some(LIST_MINUTE))).collect();
        let shown = statement(&prices, &runs, &[]);
        assert_eq!((shown.total, shown.payable()), (amount("0.015003"), amount("0.02")));
    }

    const LIST_MINUTE: &str = "2026-11-10T08:00:00Z";

    proptest! {
        /// However runs lie over months and prices, each started minute is in just one line of just one month.
        #[test]
        fn the_months_add_up_to_the_run(
            start in 0_i64..200_000_000, length in 0_i64..20_000_000, changes in proptest::collection::vec(0_i64..200_000_000, 0..4),
        ) {
            let base = at("2025-12-15T10:00:00Z");
            let moment = |millis: i64| base + SignedDuration::from_millis(millis * 100);
            let ran = Run { started: moment(start), ended: Some(moment(start + length)), ..run(1, LIST, None) };
            let mut changes = changes;
            changes.sort_unstable();
            changes.dedup();
            let one = price("2020-01-01T00:00:00Z", "0.01", "0.01");
            let prices: Vec<Price> = std::iter::once(one.clone())
                .chain(changes.into_iter().map(|change| Price { since: moment(change), ..one.clone() }))
                .collect();
            let mut month = Month::of(ran.started);
            let (mut minutes, mut charged) = (0, Decimal::ZERO);
            while month.start() <= moment(start + length) {
                let shown = Statement::of(month, base, &prices, std::slice::from_ref(&ran), &[], Vec::new()).expect("a statement");
                minutes += shown.lines.iter().map(|line| line.minutes).sum::<u64>();
                charged += shown.charged;
                month = month.next().expect("a month");
            }
            let expected = u64::try_from((length * 100 + 59_999) / 60_000).expect("minutes").max(1);
            prop_assert_eq!(minutes, expected);
            prop_assert_eq!(charged, one.amount(expected, ran.cores, ran.memory).expect("an amount"));
        }
    }
}
