//! How far the archive reaches, for the server's status.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use archive::chain::{Chain, read_chain_end, read_chain_from};
use async_trait::async_trait;
use clicks::position::PartitionId;
use platform::objects::Objects;
use serving::{Archive, Reach};

/// The chains in the object store, each read on from its last object.
#[derive(Debug)]
pub struct StoredChains {
    objects: Objects,
    ends: Mutex<BTreeMap<PartitionId, Chain>>,
}

impl StoredChains {
    pub fn new(objects: Objects) -> Self {
        StoredChains { objects, ends: Mutex::default() }
    }
}

#[async_trait]
impl Archive for StoredChains {
    async fn reach(&self, partition: &PartitionId) -> Result<Reach, String> {
        let known = self.ends.lock().unwrap_or_else(PoisonError::into_inner).get(partition).cloned();
        let read = match known {
            Some(known) => read_chain_from(&self.objects, known).await,
            None => read_chain_end(&self.objects, partition, 1).await,
        };
        let mut chain = read.map_err(|error| error.to_string())?;
        chain.keep_last(1);
        chain.late.clear();
        let reach = Reach { next_offset: chain.next_offset().unwrap_or_default(), append_time: chain.coverage() };
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).insert(partition.clone(), chain);
        Ok(reach)
    }
}

#[cfg(test)]
mod tests {
    use archive::codec::encode;
    use clicks::id::{Region, TopicId};
    use clicks::position::Offset;
    use clicks::time::Timestamp;
    use platform::log::LogRecord;

    use super::*;

    async fn store(objects: &Objects, partition: &PartitionId, offsets: std::ops::Range<u64>) {
        let row = |offset| {
            let broker_time = Timestamp::from_millis(1_000 * offset as i64);
            let value = Some("no click".into());
            let offset = Offset::new(offset);
            (LogRecord { offset, broker_time, key: None, value, headers: Vec::new() }, broker_time)
        };
        let object = encode(partition, "test", &offsets.map(row).collect::<Vec<_>>()).unwrap();
        objects.create(&object.footer.key().to_string(), object.bytes).await.unwrap();
    }

    #[tokio::test]
    async fn the_reach_is_that_of_the_last_object_and_moves_with_it() {
        let objects = Objects::memory();
        let partition = PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(7), number: 3 };
        let chains = StoredChains::new(objects.clone());
        assert_eq!(chains.reach(&partition).await, Ok(Reach::default()), "nothing is stored yet");
        for (offsets, reached) in [(0..5, 5), (5..6, 6), (6..9, 9)] {
            store(&objects, &partition, offsets).await;
            for _ in 0..2 {
                let (next_offset, last) = (Offset::new(reached), Timestamp::from_millis(1_000 * (reached as i64 - 1)));
                assert_eq!(chains.reach(&partition).await, Ok(Reach { next_offset, append_time: Some(last) }));
            }
        }
        // A hole is no reach: the archive has to be mended first.
        store(&objects, &partition, 12..13).await;
        let trouble = chains.reach(&partition).await.unwrap_err();
        assert!(trouble.contains("has a hole"), "{trouble}");
    }
}
