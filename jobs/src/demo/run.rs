//! Driving the embedded system: sending, closing days, and collecting what the proof compares.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clicks::event::Click;
use clicks::time::{Day, Timestamp};

use super::client::{Answer, BATCH_MAX, Client};
use super::generator::Send;
use super::proof::{self, DayProof, Proof, grouped};
use super::show::Show;
use super::system::Handles;
use super::truth::Truth;

/// Ads and days of the table at the end of a replay: what fits a terminal.
const TOP_ADS: usize = 20;
const TOP_DAYS: i32 = 7;
/// How long a wait may be silent.
const QUIET_MAX: Duration = Duration::from_secs(30);
/// How long the server may take to see what is published.
const SWITCH_MAX: Duration = Duration::from_secs(10);

/// A run of the demo.
#[derive(Debug)]
pub struct Run {
    pub system: Handles,
    pub client: Client,
    pub show: Show,
    truth: Truth,
    /// The truth as of the last night's cut.
    truth_at_cut: Truth,
    /// What the merged view said of each day just before its night.
    live: BTreeMap<Day, u64>,
    next_night: Day,
    pub accepted: u64,
    pub rejected: u64,
}

impl Run {
    pub fn new(system: Handles, client: Client, show: Show, first_day: Day) -> Self {
        Run {
            system,
            client,
            show,
            truth: Truth::default(),
            truth_at_cut: Truth::default(),
            live: BTreeMap::new(),
            next_night: first_day,
            accepted: 0,
            rejected: 0,
        }
    }

    pub fn next_night(&self) -> Day {
        self.next_night
    }

    /// Sends what happened in a step and waits for the acknowledgement; the clock stands at `now` meanwhile.
    pub async fn send(&mut self, now: Timestamp, sends: &[Send]) -> Result<()> {
        for sends in sends.chunks(BATCH_MAX) {
            let clicks = sends.iter().filter_map(|send| match send {
                Send::Click(click) => Some((click, now)),
                Send::Malformed(_) => None,
            });
            let clicks: Vec<(&Click, Timestamp)> = clicks.collect();
            let answer = self.client.send(lines(sends)).await?;
            let wrong = sends.len() - clicks.len();
            let wanted = Answer { accepted: clicks.len() as u64, rejected: wrong as u64 };
            ensure!(answer == wanted, "of {wanted:?} the collector made {answer:?}");
            self.sent(&clicks, answer);
        }
        Ok(())
    }

    /// Sends in real time, where other clients send too: nothing is compared.
    pub async fn send_unchecked(&mut self, sends: &[Send]) -> Result<()> {
        for sends in sends.chunks(BATCH_MAX) {
            self.client.send(lines(sends)).await?;
        }
        Ok(())
    }

    /// Enters acknowledged clicks into the truth, each with its append time.
    pub fn sent(&mut self, clicks: &[(&Click, Timestamp)], answer: Answer) {
        for (click, append_time) in clicks {
            self.truth.sent(click, *append_time);
        }
        self.accepted += answer.accepted;
        self.rejected += answer.rejected;
    }

    /// Runs the night that is next: the clock stands at or after its cut, and nothing at or after the cut was sent.
    pub async fn close_day(&mut self) -> Result<()> {
        let night = self.next_night;
        self.covered(night).await?;
        self.patiently(self.system.counted(), || self.system.uncounted()).await?;
        let before = self.client.day(night).await?;
        let live = before.total.with_context(|| format!("the merged view says nothing of {night}: {before:?}"))?;
        ensure!(before.complete && before.state == "live", "before its night, {night} is {before:?}");
        self.live.insert(night, live);
        match self.night(night).await? {
            recompute::NightOutcome::Published(_) => {}
            other => bail!("the night of {night} ended in {other:?}"),
        }
        self.truth_at_cut = self.truth.counts_only();
        self.next_night = night.next();
        let after = self.switched(night).await?;
        self.show.day_closed(night, live, after);
        Ok(())
    }

    /// Runs the night that is next without comparing anything.
    pub async fn publish(&mut self) -> Result<()> {
        let night = self.next_night;
        self.covered(night).await?;
        self.night(night).await?;
        self.next_night = night.next();
        self.show.note(&format!("{night} closed by its night"));
        Ok(())
    }

    async fn covered(&self, night: Day) -> Result<()> {
        self.patiently(self.system.covered(night), || self.system.uncovered(night)).await
    }

    async fn night(&self, night: Day) -> Result<recompute::NightOutcome> {
        self.patiently(self.system.publish(night), async || Ok(format!("the batch, which counts {night}"))).await
    }

    /// Does the work; while it takes long, says from time to time what it waits for.
    async fn patiently<T>(
        &self,
        work: impl Future<Output = Result<T>>,
        waits_for: impl AsyncFn() -> Result<String>,
    ) -> Result<T> {
        tokio::pin!(work);
        let begun = Instant::now();
        loop {
            match tokio::time::timeout(QUIET_MAX, &mut work).await {
                Ok(done) => return done,
                Err(_) => {
                    let seconds = begun.elapsed().as_secs();
                    self.show.note(&format!("waiting for {seconds} s now for {}", waits_for().await?));
                }
            }
        }
    }

    /// Waits until the merged view takes the day from the batch.
    async fn switched(&self, night: Day) -> Result<u64> {
        let begun = Instant::now();
        while begun.elapsed() < SWITCH_MAX {
            let answer = self.client.day(night).await?;
            if answer.source == "batch" {
                return answer.total.with_context(|| format!("the batch says nothing of {night}"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bail!("{night} is published, but the merged view still answers from the speed layer after {SWITCH_MAX:?}")
    }

    /// Compares every closed day.
    pub async fn proof(&self) -> Result<Vec<DayProof>> {
        let books = self.system.ledger.read().await?;
        let mut days = Vec::new();
        for (day, book) in books.days() {
            let totals = book.revision.totals;
            // A click that comes after its day became final is late by definition.
            let adjusted: u64 = book.adjustments.iter().map(|adjustment| adjustment.clicks).sum();
            let (cells_wrong, cells) = proof::compare_cells(&self.system.objects, &self.truth_at_cut, day).await?;
            days.push(DayProof {
                day,
                truth: self.truth_at_cut.day(day),
                live: self.live.get(&day).copied(),
                exact: self.client.day(day).await?.total,
                late: totals.late + adjusted,
                far_duplicates: totals.far_duplicates,
                revision: book.revision.revision,
                state: book.state(),
                cells_wrong,
                cells,
            });
        }
        Ok(days)
    }

    /// Prints the merged view's busiest ads, day by day.
    pub async fn show_top_ads(&self, first: Day) -> Result<()> {
        let last = self.next_night.previous();
        let (count, ads) = self.client.top_ads(first, last, TOP_ADS).await?;
        let from = first.max(last.plus(1 - TOP_DAYS));
        let names: Vec<&str> = ads.iter().map(|(ad, _)| ad.as_str()).collect();
        if names.is_empty() {
            return Ok(());
        }
        let by_day = self.client.ads_by_day(&names, from, last).await?;
        self.show.result(&format!("\nThe busiest of {} ads, from the merged view\n", grouped(count)))?;
        let days = std::iter::successors(Some(from), |day| (*day < last).then(|| day.next()));
        let earlier = if from > first { "  (and earlier days)" } else { "" };
        let head =
            days.fold(format!("{:<22}{:>12}", "ad", "all days"), |text, day| format!("{text}{:>12}", day.to_string()));
        self.show.result(&format!("{head}{earlier}"))?;
        for ((ad, clicks), days) in ads.iter().zip(by_day) {
            let row = days.iter().fold(format!("{ad:<22}{:>12}", grouped(*clicks)), |text, clicks| {
                format!("{text}{:>12}", clicks.map_or("unknown".to_owned(), grouped))
            });
            self.show.result(&row)?;
        }
        Ok(())
    }

    /// Prints the proof.
    pub async fn show_proof(&self) -> Result<Proof> {
        let (accepted, rejected) = (self.accepted, self.rejected);
        let proof = Proof { days: self.proof().await?, accepted, rejected };
        self.show.result("\nThe proof: exact = live + late - far duplicates, per day\n")?;
        self.show.result(&proof::render(&proof.days))?;
        self.show.result(&format!(
            "{} clicks acknowledged by the collector, {} lines refused with a reason. {}",
            grouped(accepted),
            grouped(rejected),
            match proof.holds() {
                true => "Every number is equal, nothing is unexplained.",
                false => "SOMETHING IS WRONG: see the marked days.",
            }
        ))?;
        Ok(proof)
    }
}

fn lines(sends: &[Send]) -> String {
    sends.iter().fold(String::new(), |mut text, send| {
        let _ = writeln!(text, "{}", send.body());
        text
    })
}
