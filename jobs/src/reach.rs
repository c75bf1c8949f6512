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
        let reach = Reach { next_offset: chain.next_offset().unwrap_or_default(), append_time: chain.coverage() };
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).insert(partition.clone(), chain);
        Ok(reach)
    }
}
