//! `--chaos`: processes die and the store forgets, at seeded moments. The proof must hold all the same.

use anyhow::Result;
use platform::log::Log;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::show::Show;
use super::system::System;

/// See the module.
#[derive(Debug)]
pub struct Chaos {
    random: SmallRng,
}

impl Chaos {
    pub fn new(seed: u64) -> Self {
        Chaos { random: SmallRng::seed_from_u64(seed) }
    }

    /// Steps of the simulation until something breaks again.
    pub fn steps_until_next(&mut self) -> u32 {
        self.random.random_range(60..400)
    }

    /// Breaks something.
    pub async fn strike(&mut self, system: &mut System, show: &Show) -> Result<()> {
        match self.random.random_range(0..5) {
            0 => {
                system.start_speed().await;
                show.note("chaos: the speed layer was killed and started again");
            }
            1 => {
                system.start_archiver().await;
                show.note("chaos: the archiver was killed and started again");
            }
            2 => {
                let topic = system.log.topic().await?;
                let number = self.random.random_range(0..topic.partitions);
                let lost = system.store.rollback(&topic.partition(number), self.random.random_range(1..50));
                show.note(&format!("chaos: the store lost the last {lost} flushes of partition {number}"));
            }
            3 => {
                system.store.lose_next_reply();
                show.note("chaos: a reply of the store was lost");
            }
            _ => {
                system.store.flush_all();
                system.start_speed().await;
                system.start_archiver().await;
                show.note("chaos: the live counts were wiped, the speed layer and the archiver killed");
            }
        }
        Ok(())
    }
}
