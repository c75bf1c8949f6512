//! The engine as questions use it: bounded in memory, time and rows, and without a way to write.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::DiskManagerBuilder;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use platform::objects::Objects;

use crate::error::SqlError;
use crate::pump::{Bound, pump};
use crate::size::check_plan;
use crate::snapshot::Pin;
use crate::statement::parse;
use crate::{functions, tables};

/// Under this URL the engine knows the store of [`Objects`].
pub(crate) const STORE: &str = "twofold://objects/";
/// Name of the catalog and of the schema in which the tables lie.
pub const CATALOG: &str = "twofold";
pub const SCHEMA: &str = "public";

/// What a question may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of all questions together.
    pub memory_bytes: usize,
    /// Of all questions together, in temporary files.
    pub spill_bytes: u64,
    pub time: Duration,
    /// `None`: as many as there are.
    pub rows: Option<u64>,
}

/// Memory, temporary files and the store, which all sessions share.
#[derive(Debug, Clone)]
pub struct Engine {
    runtime: Arc<RuntimeEnv>,
    limits: Limits,
}

/// The tables at the position of a pin.
#[derive(Clone)]
pub struct Session {
    pub(crate) context: SessionContext,
    limits: Limits,
}

/// What is answered, batch after batch.
pub struct Answer {
    pub schema: SchemaRef,
    pub batches: BoxStream<'static, Result<RecordBatch, SqlError>>,
}

impl Engine {
    /// # Errors
    /// When there is no folder for temporary files.
    pub fn new(objects: &Objects, limits: Limits) -> Result<Self, SqlError> {
        let spill = DiskManagerBuilder::default().with_max_temp_directory_size(limits.spill_bytes);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(limits.memory_bytes)))
            .with_disk_manager_builder(spill)
            .build_arc()?;
        runtime.register_object_store(ObjectStoreUrl::parse(STORE)?.as_ref(), objects.store());
        Ok(Engine { runtime, limits })
    }

    /// # Errors
    /// When the tables cannot be made known, which is an error of this program.
    pub fn session(&self, pin: &Pin) -> Result<Session, SqlError> {
        let mut config = SessionConfig::new()
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_create_default_catalog_and_schema(true)
            .with_information_schema(true);
        let options = config.options_mut();
        options.execution.time_zone = Some("UTC".to_owned());
        options.execution.parquet.pushdown_filters = true;
        options.sql_parser.dialect = datafusion::config::Dialect::PostgreSQL;
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(self.runtime.clone())
            .with_default_features()
            .build();
        let context = SessionContext::new_with_state(state);
        functions::register(&context);
        tables::register(&context, pin)?;
        Ok(Session { context, limits: self.limits })
    }
}

impl Session {
    /// Answers one question.
    ///
    /// # Errors
    /// When it is none, or names what is not there. What goes wrong later comes with the batches.
    pub async fn ask(&self, sql: &str) -> Result<Answer, SqlError> {
        let statement = parse(sql)?;
        let bound = Bound::new(self.limits.time, self.limits.rows);
        let plan = plan(&self.context, statement).await?;
        let frame = self.context.execute_logical_plan(plan).await?;
        let schema = frame.schema().inner().clone();
        let batches = futures::stream::once(frame.execute_stream()).try_flatten().map_err(SqlError::from).boxed();
        Ok(Answer { schema, batches: pump(batches, RecordBatch::num_rows, bound, ()) })
    }
}

/// What a statement would do, if that is only to read.
pub(crate) async fn plan(context: &SessionContext, statement: Statement) -> Result<LogicalPlan, SqlError> {
    let plan = context.state().statement_to_plan(statement).await?;
    check(&plan)?;
    Ok(plan)
}

/// A second wall behind that of [`crate::statement`]: what the plan would do.
pub(crate) fn check(plan: &LogicalPlan) -> Result<(), SqlError> {
    check_plan(plan)?;
    let reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    Ok(reads.verify_plan(plan)?)
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("schema", &self.schema).finish_non_exhaustive()
    }
}
