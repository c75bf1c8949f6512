//! The whole way of a click on the real services, as separate processes of the real binary: what a seeded generator
//! knows to be true is what the live view, the published tables and the API say, per ad and minute, although the speed
//! process, the archiver and Redis are killed in the middle. The broker's clock is moved over midnights; Twofold's
//! follows it. Rules are the default ones and nothing is forced.

mod install;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clicks::rules::{Rules, RulesBook};
use clicks::time::{Day, Span, Timestamp};
use clicks::window::Minute;
use platform::log::{KafkaLog, Log, NewRecord, Target};
use promises::services::{duckdb, new_folder, watch_page};
use twofold::demo::{Generator, Send, Shape, Shares, Truth};

use install::{Install, Service};

const PARTITIONS: u32 = 8;
const CLICKS_MIN: u64 = 300_000;
const STEP: Span = Span::minutes(1);

/// Simulated minutes of traffic, around the first midnight.
const MINUTES: u32 = 240;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truth_is_what_every_layer_says_after_every_process_was_killed() -> Result<()> {
    let today = real_now().day();
    // Traffic begins at 22:00 of the first day; the clock only ever moves forward.
    let first_day = today.next();
    let start = first_day.end() - Span::hours(2);
    let mut install = Install::start(first_day, PARTITIONS).await?;
    install.move_clock_to(start).await?;
    for service in [Service::Collect, Service::Speed, Service::Archive, Service::Serve] {
        install.spawn(service).await?;
    }
    let check = install.twofold(&["check"]).await?;
    ensure!(check.code == 0, "check: {check:?}");

    let mut run = Run::new(start);
    let early = install.twofold(&["batch", "run"]).await?;
    ensure!(early.code == 10, "a day that is not over must not close: {early:?}");

    // A person looks at the page all the while.
    let pictures = new_folder("watch")?;
    let (page, folder) = (install.page(), pictures.clone());
    let watch = tokio::spawn(async move { watch_page(&page, &folder).await });

    send_traffic(&mut install, &mut run).await?;
    ensure!(run.accepted >= CLICKS_MIN, "only {} clicks were sent", run.accepted);
    let odd = append_odd_records(&install).await?;

    // The first day is over and its lateness has passed, but no night ran: everything is live.
    install.speed_caught_up().await?;
    compare_api(&install, &run.truth, first_day, "speed", |cell| cell.live).await?;
    compare_api(&install, &run.truth, first_day.next(), "speed", |cell| cell.live).await?;
    let status = install.status().await?;
    let rejected: u64 = status["partitions"]
        .as_array()
        .context("status lists the partitions")?
        .iter()
        .map(|partition| partition["live"]["rejected"].as_u64().unwrap_or_default())
        .sum();
    ensure!(rejected == odd, "{odd} odd records, {rejected} rejected: {status}");
    let refused = install.collector_metric("twofold_collector_rejected_total").await?;
    ensure!(refused == run.malformed, "{} malformed lines, {refused} refused", run.malformed);

    // Nights up to the finality of the first day, and one more: stragglers restate open days and adjust final ones.
    let rules = RulesBook::new(Rules::default())?;
    let mut published = Truth::default();
    for night in first_day.until(first_day.plus(5)) {
        let cut = rules.cut_time(night);
        send_stragglers(&mut install, &mut run, cut).await?;
        install.move_clock_to(cut).await?;
        published = run.truth.counts_only();
        // Once a night could run the log holds what shows every layer that the cut has come.
        install.run_night(night, &["--dry-run"]).await?;
        install.speed_caught_up().await?;
        let outcome = install.run_night(night, &[]).await?;
        ensure!(outcome["night"] == night.to_string(), "{outcome}");
        let drift = &outcome["drift"]["compared"];
        let layers_agree = drift["live"] == drift["exact"] && drift["live_late"] == drift["exact_late"];
        ensure!(drift["exact"].is_u64() && layers_agree, "{outcome}");
    }
    let again = install.twofold(&["batch", "run", "--date", &first_day.to_string()]).await?;
    ensure!(again.code == 0 && again.stdout.contains("already"), "{again:?}");

    for day in first_day.until(first_day.plus(5)) {
        compare_api(&install, &published, day, "batch", |cell| cell.exact).await?;
        compare_tables(&install, &published, day).await?;
    }
    let state = install.day_state(first_day).await?;
    ensure!(state == "final" || state == "adjusted", "{first_day} is {state} after its finality");

    // Redis away: the batch still answers.
    install.kill_redis()?;
    compare_api(&install, &published, first_day, "batch", |cell| cell.exact).await?;
    // And is back, as the person at the page sees.
    let is_seen = async || Ok(watch.is_finished() || pictures.join("away.png").exists());
    install.wait_until("the page says that Redis is away", is_seen).await?;
    install.restart_redis().await?;
    watch.await??;
    install.stop().await
}

/// What was sent so far.
struct Run {
    generator: Generator,
    truth: Truth,
    accepted: u64,
    malformed: u64,
}

impl Run {
    fn new(start: Timestamp) -> Self {
        let shares = Shares { near_duplicates: 4_500, very_late: 50, ..Shares::default() };
        let shape = Shape {
            seed: seed(),
            ads: 60,
            clicks_per_minute: 3_200,
            partitions: PARTITIONS,
            quiet: vec![1, 6],
            step: STEP,
            shares,
        };
        Run { generator: Generator::new(shape, start), truth: Truth::default(), accepted: 0, malformed: 0 }
    }

    /// Sends one step's clicks at its time.
    async fn send(&mut self, install: &Install, now: Timestamp, sends: Vec<Send>) -> Result<()> {
        for batch in sends.chunks(1_000) {
            let lines: String = batch.iter().flat_map(|send| [send.body(), "\n".to_owned()]).collect();
            let clicks = batch.iter().filter(|send| matches!(send, Send::Click(_))).count() as u64;
            let accepted = install.post(lines, batch.len() as u64 - clicks).await?;
            ensure!(accepted == clicks, "{accepted} of {clicks} accepted at {now}");
            self.malformed += batch.len() as u64 - clicks;
            self.accepted += clicks;
            for send in batch {
                if let Send::Click(click) = send {
                    self.truth.sent(click, now);
                }
            }
        }
        Ok(())
    }
}

/// Minute by minute over midnight; a process dies every now and then.
async fn send_traffic(install: &mut Install, run: &mut Run) -> Result<()> {
    for minute in 0..MINUTES {
        let (time, sends) = run.generator.step();
        install.move_clock_to(time).await?;
        match minute {
            60 => install.kill(Service::Speed)?,
            63 => install.spawn(Service::Speed).await?,
            100 => install.kill(Service::Archive)?,
            104 => install.spawn(Service::Archive).await?,
            140 => install.kill_redis()?,
            143 => install.restart_redis().await?,
            _ => {}
        }
        run.send(install, time, sends).await?;
    }
    Ok(())
}

/// Lets time pass up to the cut with nothing but what is still on its way.
async fn send_stragglers(install: &mut Install, run: &mut Run, cut: Timestamp) -> Result<()> {
    run.generator.stop_clicks();
    loop {
        let Some(next) = run.generator.next_pending().filter(|next| *next < cut) else { return Ok(()) };
        install.move_clock_to(next).await?;
        let sends = run.generator.skip_to(next);
        run.send(install, next, sends).await?;
    }
}

/// What other producers might put on the topic: none of it is lost, none of it is counted.
async fn append_odd_records(install: &Install) -> Result<u64> {
    let log = KafkaLog::connect(install.kafka_options()).await?;
    let deep = format!("{{\"x\":{}", "[".repeat(100_000));
    let odd: [Option<&[u8]>; 4] = [None, Some(b""), Some(b"no json"), Some(deep.as_bytes())];
    for (number, value) in odd.iter().enumerate() {
        let record = NewRecord { value: value.map(Bytes::copy_from_slice), ..NewRecord::default() };
        log.append(Target::Partition(number as u32), record).await?;
    }
    Ok(odd.len() as u64)
}

/// The API's answer for every ad and minute of the day, and for the day as a whole, against the truth.
async fn compare_api(
    install: &Install,
    truth: &Truth,
    day: Day,
    source: &str,
    number: fn(twofold::demo::Cell) -> u64,
) -> Result<()> {
    let mut by_ad: BTreeMap<String, BTreeMap<Minute, u64>> = BTreeMap::new();
    for (ad, minute, cell) in truth.cells_of(day).filter(|(_, _, cell)| number(*cell) > 0) {
        by_ad.entry(ad.to_string()).or_default().insert(minute, number(cell));
    }
    let total = number(truth.day(day));
    let answer = install.clicks(None, day, "day").await?;
    ensure!(answer.values().sum::<u64>() == total, "{day}: API says {answer:?}, truth is {total}");
    ensure!(install.source(day).await? == source, "{day} does not come from {source}");
    for (ad, minutes) in &by_ad {
        let answer = install.clicks(Some(ad), day, "minute").await?;
        let differs = |(minute, clicks): (&Minute, &u64)| minutes.get(minute).copied().unwrap_or(0) != *clicks;
        let wrong = answer.iter().filter(|cell| differs(*cell)).count();
        ensure!(wrong == 0 && answer.len() >= minutes.len(), "{day} {ad}: {wrong} minutes differ from the truth");
        let hours: u64 = install.clicks(Some(ad), day, "hour").await?.values().sum();
        ensure!(hours == minutes.values().sum::<u64>(), "{day} {ad}: the hours do not add up");
    }
    Ok(())
}

/// The published tables, read by a tool that knows nothing of Twofold.
async fn compare_tables(install: &Install, truth: &Truth, day: Day) -> Result<()> {
    let wanted: BTreeMap<(String, i64), u64> = truth
        .cells_of(day)
        .filter(|(_, _, cell)| cell.exact > 0)
        .map(|(ad, minute, cell)| ((ad.to_string(), minute.start().as_millis()), cell.exact))
        .collect();
    let table = |grain: &str| install.table(&format!("tables/current/{grain}/day={day}/data.parquet"));
    let rows = duckdb(&format!(
        "SELECT ad_id, epoch_ms(period_start), sum(clicks + adjustment) FROM read_parquet('{}') \
         GROUP BY ALL HAVING sum(clicks + adjustment) > 0",
        table("minute")
    ))
    .await?;
    let mut found = BTreeMap::new();
    for row in rows {
        found.insert((row[0].clone(), row[1].parse()?), row[2].parse()?);
    }
    ensure!(found == wanted, "{day}: {} cells in the table, {} in truth, or numbers differ", found.len(), wanted.len());
    for grain in ["hour", "day"] {
        let sql = format!("SELECT coalesce(sum(clicks + adjustment), 0) FROM read_parquet('{}')", table(grain));
        let sum: u64 = duckdb(&sql).await?[0][0].parse()?;
        ensure!(sum == wanted.values().sum::<u64>(), "{day}: the {grain} table says {sum}");
    }
    Ok(())
}

/// The soak run tries another seed each time.
fn seed() -> u64 {
    let seed = std::env::var("TWOFOLD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(3);
    eprintln!("seed {seed}");
    seed
}

fn real_now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_millis(since.as_millis() as i64)
}
