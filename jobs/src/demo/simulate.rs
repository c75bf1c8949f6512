//! The simulated days: the clock moves only when the requests in flight are answered, so a slow machine changes nothing.

use anyhow::Result;
use clicks::rules::{Rules, RulesBook};
use clicks::time::{Day, Span};
use platform::clock::{Clock, SystemClock};

use super::chaos::Chaos;
use super::generator::{Generator, Shape, Shares};
use super::run::Run;
use super::show::{Output, minutes_between};
use super::system::PARTITIONS;
use super::{DemoArgs, show_query, start, verdict};
use crate::exit::{self, Exit};

const STEP: Span = Span::minutes(1);

pub async fn run(args: &DemoArgs, output: Output) -> Result<Exit> {
    let stop = exit::on_signal();
    let rules = RulesBook::new(Rules::default())?;
    // The last day whose cut has passed is the last one that can close; the days end at the real now.
    let last = rules.night_of(SystemClock.now()).previous();
    let first_day = last.plus(1 - args.days as i32);
    let length = minutes_between(first_day.start(), SystemClock.now());
    let (mut system, mut run) = start(args, output, first_day, length).await?;
    let shape = Shape {
        seed: args.seed,
        ads: args.ads,
        clicks_per_minute: args.rate,
        partitions: PARTITIONS,
        quiet: Vec::new(),
        step: STEP,
        shares: Shares::default(),
    };
    let mut generator = Generator::new(shape, first_day.start());
    let mut chaos = args.chaos.then(|| Chaos::new(args.seed));
    let mut ended = Ok(Some(Ended::Pause));
    while matches!(ended, Ok(Some(Ended::Pause))) {
        if let Some(chaos) = &mut chaos {
            chaos.strike(&mut system, &run.show).await?;
        }
        let pause = chaos.as_mut().map(Chaos::steps_until_next);
        ended = system.watch_until(&stop, simulate(&mut run, &mut generator, &rules, first_day, pause)).await;
    }
    run.show.done();
    let proof = match ended? {
        Some(_) => system.watch_until(&stop, run.show_proof()).await?,
        None => None,
    };
    let Some(proof) = proof else {
        system.stop().await?;
        return Ok(Exit::Failure);
    };
    show_query(&run, args)?;
    run.show.json(&proof.json())?;
    let holds = proof.holds();
    if !args.once && holds {
        system.watch_until(&stop, go_live(&mut run, &mut generator, &rules)).await?;
    }
    system.stop().await?;
    Ok(verdict(holds))
}

/// Why the simulation stopped.
enum Ended {
    /// It has reached the real now.
    Now,
    /// Something is to be broken.
    Pause,
}

async fn simulate(
    run: &mut Run,
    generator: &mut Generator,
    rules: &RulesBook,
    first_day: Day,
    pause_after: Option<u32>,
) -> Result<Ended> {
    let clock = run.system.clock.clone();
    let mut steps = 0;
    loop {
        let (time, sends) = generator.step();
        clock.advance_to(time);
        if time >= rules.cut_time(run.next_night()) {
            run.close_day().await?;
        }
        run.send(time, &sends).await?;
        run.show.progress(minutes_between(first_day.start(), time), time, run.accepted);
        if time + STEP > SystemClock.now() {
            return Ok(Ended::Now);
        }
        steps += 1;
        if pause_after == Some(steps) {
            return Ok(Ended::Pause);
        }
    }
}

/// Real time from here on: the clock runs by itself, the generator goes on, days close when they end.
async fn go_live(run: &mut Run, generator: &mut Generator, rules: &RulesBook) -> Result<()> {
    let clock = run.system.clock.clone();
    clock.advance_to(SystemClock.now());
    clock.let_go();
    generator.set_step(Span::seconds(1));
    run.show.result(&format!(
        "\nNow time runs at real speed. Your own click, which appears on the page within a second:\n  \
         curl -sS {} -H 'content-type: application/json' -d \
         '{{\"ad_id\":\"my-ad\",\"user_id\":\"me\",\"timestamp\":\"'$(date -u +%Y-%m-%dT%H:%M:%SZ)'\"}}'\nand its page:\n  {}?ad=my-ad\nCtrl-C ends the demo.",
        run.client.collector_url(),
        run.client.page_url()
    ))?;
    loop {
        let (time, sends) = generator.step();
        clock.sleep_until(time).await;
        if time >= rules.cut_time(run.next_night()) {
            // Clicks of people and of the generator go on meanwhile, so this night is published but not compared.
            run.publish().await?;
        }
        run.send_unchecked(&sends).await?;
    }
}
