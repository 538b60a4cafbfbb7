//! A month's statement of a project: a pure function of its runs, the price list, its failed jobs and its corrections.
//! It is computed whenever it is asked for, from the very rows that say what ran: so its sum is that of the jobs.

use std::collections::BTreeMap;

use db::billing::{Correction as Row, Failed, Run};
use jiff::{SignedDuration, Timestamp};
use model::{AttemptNo, Blame, Cores, EndReason, JobId, MiB};
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
    /// The jobs that failed and the attempts that the platform lost, whose fault it was, and what is credited for it.
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

/// A job that failed in the month, or an attempt that the platform lost and of which the month is credited a part (JOB-10).
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The job.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// The attempt that failed.
    pub attempt: u32,
    /// When it ended.
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
    /// The statement of `month` as it stands at `now`. `lost`: of each job of which an attempt of the month was lost by the
    /// platform all attempts that were, of whatever month, oldest first.
    pub(super) fn of(
        month: Month,
        now: Timestamp,
        prices: &[Price],
        runs: &[Run],
        lost: &[Run],
        failed: &[Failed],
        corrections: Vec<Row>,
    ) -> Result<Statement, Error> {
        let mut lines = Vec::new();
        for run in runs {
            add_lines(&mut lines, run, month, now, prices)?;
        }
        let failures = failures(failed, lost, credits(month, prices, lost)?)?;
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

/// Whether it was the platform that lost a run.
pub(super) fn is_lost(run: &Run) -> bool {
    run.ended.is_some() && run.reason.as_ref().is_some_and(|reason| reason.blame() == Blame::Platform)
}

type Credits = BTreeMap<(JobId, u32), Vec<Credit>>;

/// What is credited of a month for attempts that were lost: of each its last minutes, until the job has had five hours. An
/// earlier attempt comes first, so that what was credited once is not taken back by what is lost later. Each minute is
/// credited in the month that it was charged in, at what it had cost; one that cost nothing does not count.
fn credits(month: Month, prices: &[Price], lost: &[Run]) -> Result<Credits, Error> {
    let mut all = Credits::new();
    let mut left: BTreeMap<JobId, u64> = BTreeMap::new();
    for run in lost {
        let left = left.entry(run.job).or_insert(MOST_CREDITED);
        let ended = run.ended.unwrap_or(run.started);
        let mut lines = Vec::new();
        let mut part = Some(Month::of(run.started)).filter(|_| *left > 0);
        while let Some(within) = part.filter(|part| part.start() <= ended) {
            add_lines(&mut lines, run, within, ended, prices)?;
            part = within.next();
        }
        let mut credits = Vec::new();
        for line in lines.iter().rev().filter(|line| line.amount > Decimal::ZERO) {
            let minutes = line.minutes.min(*left);
            *left -= minutes;
            let is_ours = minutes > 0 && Month::of(line.from) == month;
            if let Some(price) = line.price.as_ref().filter(|_| is_ours) {
                let amount = price.amount(minutes, line.cores, line.memory)?;
                credits.push(Credit { attempt: line.attempt, minutes, amount });
            }
        }
        all.insert((run.job, run.attempt.0), credits);
    }
    Ok(all)
}

/// The jobs that failed, by their end; then the attempts that are credited otherwise: their job was tried again, or failed
/// in another month.
fn failures(failed: &[Failed], lost: &[Run], mut credits: Credits) -> Result<Vec<Failure>, Error> {
    let mut all = Vec::new();
    for job in failed {
        let is_lost = credits.contains_key(&(job.job, job.attempt));
        let between = job.reason.as_ref().is_some_and(|reason| is_of_none(reason, is_lost));
        let (blame, evidence) = evidence(job.attempt, job.reason.as_ref(), between);
        let credits = match blame {
            // Between two attempts: the end of the last one was another, and is a line of its own where it is credited.
            _ if between => Vec::new(),
            Blame::Platform => credits.remove(&(job.job, job.attempt)).unwrap_or_default(),
            // An attempt that failed by the job's own fault is not given back.
            Blame::Job => Vec::new(),
        };
        let (name, credited) = (job.name.clone(), sum(credits.iter().map(|credit| credit.amount))?);
        all.push(Failure {
            job: job.job,
            name,
            attempt: job.attempt,
            ended: job.ended,
            blame,
            evidence,
            credits,
            credited,
        });
    }
    for run in lost {
        let attempt = run.attempt.0;
        let Some(credits) = credits.remove(&(run.job, attempt)).filter(|credits| !credits.is_empty()) else { continue };
        let (blame, evidence) = evidence(attempt, run.reason.as_ref(), false);
        let (name, ended) = (run.name.clone(), run.ended.unwrap_or(run.started));
        let credited = sum(credits.iter().map(|credit| credit.amount))?;
        all.push(Failure { job: run.job, name, attempt, ended, blame, evidence, credits, credited });
    }
    Ok(all)
}

/// Whose fault the end of an attempt was, or of a job before one or between two, and what shows it.
fn evidence(attempt: u32, reason: Option<&EndReason>, between: bool) -> (Blame, String) {
    let place = match attempt {
        0 => "before the first attempt".to_owned(),
        _ if between => "before another attempt".to_owned(),
        attempt => format!("attempt {attempt}"),
    };
    match reason {
        Some(reason) => (reason.blame(), format!("{place}: {reason}")),
        None => (Blame::Platform, format!("{place}: no reason is on record")),
    }
}

/// Whether a job ended by it that waited for an attempt, and not the last one, which was lost or not.
fn is_of_none(reason: &EndReason, is_lost: bool) -> bool {
    match reason {
        EndReason::Withdrawn { .. } | EndReason::NotStarted { .. } => true,
        EndReason::CannotStart { .. } => is_lost,
        _ => false,
    }
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
            reason: ended.map(|_| EndReason::Exited { return_code: 0 }),
        }
    }

    fn platform() -> EndReason {
        EndReason::Platform { detail: "the shim was lost".to_owned() }
    }

    /// An attempt that the platform lost.
    fn lost(job: u128, attempt: u32, started: &str, ended: &str) -> Run {
        Run { attempt: AttemptNo(attempt), reason: Some(platform()), ..run(job, started, Some(ended)) }
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
        of_month("2026-11", prices, runs, failed)
    }

    /// The statement of a month of all runs that there are.
    fn of_month(month: &str, prices: &[Price], runs: &[Run], failed: &[Failed]) -> Statement {
        let lost: Vec<Run> = runs.iter().filter(|run| is_lost(run)).cloned().collect();
        let (month, now) = (month.parse().expect("a month"), at("2026-11-30T12:00:00Z"));
        Statement::of(month, now, prices, runs, &lost, failed, Vec::new()).expect("a statement")
    }

    /// What a statement credits: job, attempt, minutes.
    fn credited(shown: &Statement) -> Vec<(u128, u32, u64)> {
        let parts = shown.failures.iter().flat_map(|failure| {
            let part = |credit: &Credit| (failure.job.0.as_u128(), credit.attempt.0, credit.minutes);
            failure.credits.iter().map(part).collect::<Vec<_>>()
        });
        parts.collect()
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
        let short = lost(1, 1, "2026-11-19T23:00:00Z", "2026-11-20T00:00:00Z");
        let long = lost(2, 1, "2026-11-01T00:00:00Z", "2026-11-20T00:00:00Z");
        let shown = statement(&prices, &[short, long], &[failed(1, platform()), failed(2, platform())]);
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
            let ran =
                Run { reason: Some(reason.clone()), ..lost(1, 1, "2026-11-19T23:00:00Z", "2026-11-20T00:00:00Z") };
            let shown = statement(&prices, &[ran], &[failed(1, reason.clone())]);
            assert_eq!((shown.failures[0].blame, shown.failures[0].credited), (Blame::Job, Decimal::ZERO), "{reason}");
        }
    }

    #[test]
    fn each_month_credits_what_was_paid_in_it_and_the_five_hours_are_of_the_job() {
        let prices = [price(LIST, "0.01", "0")];
        let runs = [lost(1, 1, "2026-10-01T00:00:00Z", "2026-11-01T00:10:00Z")];
        let failed = Failed { ended: at("2026-11-01T00:10:00Z"), ..failed(1, platform()) };
        let october = of_month("2026-10", &prices, &runs, &[]);
        let november = of_month("2026-11", &prices, &runs, &[failed]);
        assert_eq!((credited(&october), credited(&november)), (vec![(1, 1, 290)], vec![(1, 1, 10)]));
        assert_eq!((november.charged, november.credited), (amount("0.3"), amount("0.3")));
        assert_eq!(october.failures[0].evidence, "attempt 1: lost by the platform: the shim was lost");
    }

    #[test]
    fn an_attempt_that_was_lost_is_credited_whatever_became_of_the_job() {
        let prices = [price(LIST, "0.01", "0")];
        let mut runs = vec![
            lost(1, 1, "2026-11-10T00:00:00Z", "2026-11-10T02:00:00Z"),
            Run { attempt: AttemptNo(2), ..run(1, "2026-11-10T03:00:00Z", Some("2026-11-10T04:00:00Z")) },
        ];
        let shown = statement(&prices, &runs, &[]);
        assert_eq!((credited(&shown), shown.total), (vec![(1, 1, 120)], amount("1.8")), "the hour that it ran is paid");
        // What is lost later takes nothing back of what was credited before, and both have five hours together.
        runs[1] = lost(1, 2, "2026-11-10T03:00:00Z", "2026-11-10T08:00:00Z");
        let shown = statement(&prices, &runs, &[Failed { attempt: 2, ..failed(1, platform()) }]);
        assert_eq!(credited(&shown), [(1, 2, 180), (1, 1, 120)]);
        assert_eq!(shown.failures.iter().map(|one| one.attempt).collect::<Vec<_>>(), [2, 1]);
        // A retry that was still to come and never did: the job failed otherwise, and its lost attempt is credited.
        let refused = EndReason::CannotStart { detail: "it has waited for 30 days".to_owned() };
        let shown = statement(&prices, &runs[..1], &[failed(1, refused)]);
        assert_eq!((credited(&shown), shown.failures[0].blame), (vec![(1, 1, 120)], Blame::Job));
        assert_eq!(shown.failures[0].evidence, "before another attempt: cannot start: it has waited for 30 days");
    }

    #[test]
    fn a_job_that_the_platform_does_not_start_shows_when_and_its_lost_attempt_has_its_own_line() {
        let prices = [price(LIST, "0.01", "0")];
        let not_started = EndReason::NotStarted { detail: "the machine is smaller now".to_owned() };
        let before = [Failed { attempt: 0, ..failed(1, not_started.clone()) }, failed(2, not_started)];
        let shown = statement(&prices, &[lost(2, 1, "2026-11-10T00:00:00Z", "2026-11-10T02:00:00Z")], &before);
        let lines: Vec<_> = shown.failures.iter().map(|line| (line.blame, line.evidence.as_str())).collect();
        assert_eq!(
            lines,
            [
                (Blame::Platform, "before the first attempt: not started by the platform: the machine is smaller now"),
                (Blame::Platform, "before another attempt: not started by the platform: the machine is smaller now"),
                (Blame::Platform, "attempt 1: lost by the platform: the shim was lost"),
            ]
        );
        assert_eq!(credited(&shown), [(2, 1, 120)]);
        let after = EndReason::CannotStart { detail: "job 7 is FAILED".to_owned() };
        let shown = statement(&prices, &[], &[Failed { attempt: 0, ..failed(3, after) }]);
        assert_eq!(shown.failures[0].evidence, "before the first attempt: cannot start: job 7 is FAILED");
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
                let shown = Statement::of(month, base, &prices, std::slice::from_ref(&ran), &[], &[], Vec::new()).expect("a statement");
                minutes += shown.lines.iter().map(|line| line.minutes).sum::<u64>();
                charged += shown.charged;
                month = month.next().expect("a month");
            }
            let expected = u64::try_from((length * 100 + 59_999) / 60_000).expect("minutes").max(1);
            prop_assert_eq!(minutes, expected);
            prop_assert_eq!(charged, one.amount(expected, ran.cores, ran.memory).expect("an amount"));
        }

        /// However attempts that were lost lie over months, all months together credit the job five hours at the most, and
        /// no month more than it charged.
        #[test]
        fn the_months_credit_five_hours_of_a_job_and_no_more_than_they_charge(
            parts in proptest::collection::vec((0_i64..3_000_000, 0_i64..60_000), 1..6),
        ) {
            let prices = [price("2020-01-01T00:00:00Z", "0.01", "0.01")];
            let (mut moment, mut runs, mut minutes) = (at("2026-01-15T10:00:00Z"), Vec::new(), 0);
            for (attempt, (pause, length)) in (1..).zip(parts) {
                let started = moment + SignedDuration::from_secs(pause);
                moment = started + SignedDuration::from_secs(length);
                minutes += started_minutes(started, moment);
                runs.push(Run { started, ended: Some(moment), ..lost(1, attempt, LIST, LIST) });
            }
            let mut month = Month::of(runs[0].started);
            let mut given = 0;
            while month.start() <= moment {
                let shown = of_month(&month.to_string(), &prices, &runs, &[]);
                prop_assert!(shown.credited <= shown.charged && shown.total >= Decimal::ZERO);
                given += credited(&shown).iter().map(|(_, _, minutes)| minutes).sum::<u64>();
                month = month.next().expect("a month");
            }
            prop_assert_eq!(given, minutes.min(MOST_CREDITED));
        }
    }
}
