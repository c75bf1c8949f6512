//! The raw records that were counted, from the objects that the ledger names, each as far as it was counted.

use std::sync::Arc;

use archive::schema::schema;
use arrow::datatypes::{DataType, Field, SchemaRef};
use async_trait::async_trait;
use clicks::layout::columns::APPEND_TIME;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::files::{File, Files};
use crate::snapshot::Pin;

/// Values of an object that it does not hold.
pub(super) const REGION: &str = "region";
pub(super) const TOPIC: &str = "topic_id";
pub(super) const PARTITION: &str = "partition";
pub(super) const APPEND_DAY: &str = "append_day";
pub(super) const OBJECT: &str = "object";
pub(super) const FROM: &str = "counted_from";
pub(super) const TO: &str = "counted_to";

/// Raw records, and those of the same objects that lie before or behind what was counted, which its view leaves out.
#[derive(Debug)]
pub(super) struct Raw {
    pin: Pin,
    files: Files,
}

impl Raw {
    pub(super) fn new(pin: Pin) -> Self {
        let field = |name: &str, data_type| Arc::new(Field::new(name, data_type, false));
        let values = vec![
            field(REGION, DataType::Utf8),
            field(TOPIC, DataType::Utf8),
            field(PARTITION, DataType::Int32),
            field(APPEND_DAY, DataType::Date32),
            field(OBJECT, DataType::Utf8),
            field(FROM, DataType::Int64),
            field(TO, DataType::Int64),
        ];
        Raw { pin, files: Files::new(schema(), values, APPEND_TIME) }
    }
}

#[async_trait]
impl TableProvider for Raw {
    fn schema(&self) -> SchemaRef {
        self.files.schema().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let snapshot = self.pin.get()?;
        let text = |value: &dyn std::fmt::Display| ScalarValue::Utf8(Some(value.to_string()));
        let objects = snapshot.raw_objects().await?;
        let files = objects.into_iter().map(|(key, object)| File {
            bytes: object.bytes,
            // An object holds records of one append day.
            span: key.day.interval(),
            values: vec![
                text(&key.partition.region),
                text(&key.partition.topic),
                ScalarValue::Int32(Some(key.partition.number as i32)),
                ScalarValue::Date32(Some(key.day.number())),
                text(&key),
                ScalarValue::Int64(Some(object.from.value() as i64)),
                ScalarValue::Int64(Some(object.to.value() as i64)),
            ],
            key: key.to_string(),
        });
        let files = self.files.pruned(state, files.collect(), filters)?;
        self.files.scan(snapshot.objects(), &files, projection, state.config().target_partitions())
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}
