//! DataFusion as a night uses it: bounded memory with spilling, and no cache that could hide a change of the store.

use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::DiskManagerBuilder;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionStateBuilder, TaskContext};
use datafusion::prelude::{SessionConfig, SessionContext};
use platform::objects::Objects;

use crate::Options;

/// Under this URL DataFusion knows the store of [`Objects`].
const STORE: &str = "twofold://objects/";

/// A session of one run.
#[derive(Clone)]
pub(crate) struct Engine {
    session: SessionContext,
    store: ObjectStoreUrl,
}

impl Engine {
    pub(crate) fn new(options: &Options, objects: &Objects) -> Result<Self, DataFusionError> {
        let mut spill = DiskManagerBuilder::default().with_max_temp_directory_size(options.spill_limit_bytes);
        if let Some(folder) = &options.spill_folder {
            let mode = datafusion::execution::disk_manager::DiskManagerMode::Directories(vec![folder.clone()]);
            spill = spill.with_mode(mode);
        }
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(options.memory_limit_bytes)))
            .with_disk_manager_builder(spill)
            // A listing that is cached for ever would not show what another process wrote since.
            .with_object_list_cache_limit(0)
            .with_file_statistics_cache_limit(0)
            .with_metadata_cache_limit(0)
            .build_arc()?;
        let config = SessionConfig::new().with_target_partitions(options.target_partitions.max(1));
        let state =
            SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features().build();
        let session = SessionContext::new_with_state(state);
        let store = ObjectStoreUrl::parse(STORE)?;
        session.register_object_store(store.as_ref(), objects.store());
        Ok(Engine { session, store })
    }

    pub(crate) fn session(&self) -> &SessionContext {
        &self.session
    }

    pub(crate) fn task(&self) -> Arc<TaskContext> {
        self.session.task_ctx()
    }

    pub(crate) fn store(&self) -> ObjectStoreUrl {
        self.store.clone()
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.store.as_str())
    }
}
