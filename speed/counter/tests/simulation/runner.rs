//! Plays many histories on all cores, and makes the first failure small.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use clicks::bugs::{self, Bug};

use crate::plan::Plan;
use crate::play::{End, Red, play};
use crate::shrink::shrink;
use crate::tally::Tally;

/// One history on a runtime of its own, whose time is simulated.
///
/// # Errors
/// What went wrong.
pub(crate) fn run(plan: &Plan, bug: Option<Bug>, with_text: bool) -> Result<End, Red> {
    bugs::switch(bug);
    bugs::crash();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let played = catch_unwind(AssertUnwindSafe(|| runtime.block_on(play(plan, with_text))));
    drop(runtime);
    bugs::crash();
    bugs::switch(None);
    played.unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".to_owned());
        Err(Red { why, text: String::new() })
    })
}

/// Plays the seeds until one goes red; returns its place among them and what went wrong, and what happened until then.
pub(crate) fn first_red(seeds: &[u64], bug: Option<Bug>) -> (Option<(usize, Red)>, Tally) {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (found, tally): (Mutex<Option<(usize, Red)>>, Mutex<Tally>) = Default::default();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(seed) = seeds.get(number) else { return };
                    let red = match run(&Plan::draw(*seed), bug, false) {
                        Ok(end) => {
                            tally.lock().unwrap().add(&end.tally);
                            continue;
                        }
                        Err(red) => red,
                    };
                    stop.store(true, Ordering::Relaxed);
                    let mut found = found.lock().unwrap();
                    if found.as_ref().is_none_or(|(first, _)| number < *first) {
                        *found = Some((number, red));
                    }
                }
            });
        }
    });
    (found.into_inner().unwrap(), tally.into_inner().unwrap())
}

/// What somebody needs to understand why a seed goes red.
pub(crate) fn explain(seed: u64, bug: Option<Bug>, red: &Red) -> String {
    let shrunk = shrink(&Plan::draw(seed), |plan| run(plan, bug, false).is_err());
    let (why, text) = match run(&shrunk, bug, true) {
        Err(red) => (red.why, red.text),
        Ok(_) => ("it is green when it is played again".to_owned(), String::new()),
    };
    format!(
        "seed {seed} goes red: {}\n\nThe shortest plan that does: {shrunk:#?}\n\nit ends with: {why}\n\n{text}\n\n\
         TWOFOLD_SEED={seed} plays it again",
        red.why
    )
}
