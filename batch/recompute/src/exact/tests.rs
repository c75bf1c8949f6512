//! The operator by itself: its plan travels, and what it is given wrongly it refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::TimestampMillisecondArray;
use arrow::array::{ArrayRef, DictionaryArray, FixedSizeBinaryArray, Int8Array, Int64Array, RecordBatch};
use arrow::datatypes::Int32Type;
use clicks::dedup::DedupKeys;
use clicks::id::{Region, TopicId};
use clicks::position::{Offset, PartitionId};
use clicks::rules::{Rules, RulesBook};
use clicks::time::{Day, Span};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::SessionContext;
use datafusion_proto::physical_plan::{AsExecutionPlan, PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use datafusion_proto::protobuf::PhysicalPlanNode;

use super::{ExactCount, Work};
use crate::exact::work::Part;
use crate::plan::{FinalDays, Scope};
use crate::record::NEEDED_SCHEMA;

fn day() -> Day {
    "2026-03-01".parse().unwrap()
}

fn work(partitions: u32, keys_move: bool) -> Work {
    let partition = |number| PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(1), number };
    let mut rules = RulesBook::new(Rules::default()).unwrap();
    rules.add(day(), Rules { version: 2, lateness: Span::minutes(20), ..Rules::default() }).unwrap();
    let scope = Scope {
        rules,
        keys: DedupKeys::new(u128::MAX - 1),
        days: BTreeSet::from([day(), day().next()]),
        is_final: FinalDays::default(),
        through: BTreeMap::from([(partition(0), Offset::new(3))]),
    };
    let partitions = (0..partitions).map(|number| Part { partition: partition(number), rows: 9 }).collect();
    Work { scope, partitions, keys_move }
}

/// Clicks on ad `a`, each an hour after midnight and with the given id and minute of its append.
fn batch(clicks: &[(u8, i64)]) -> RecordBatch {
    let times = |values: Vec<i64>| Arc::new(TimestampMillisecondArray::from(values).with_timezone("UTC")) as ArrayRef;
    let start = (day().start() + Span::hours(1)).as_millis();
    let ids: Vec<[u8; 16]> = clicks.iter().map(|(id, _)| [*id; 16]).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..clicks.len() as i64)),
        times(clicks.iter().map(|(_, minute)| start + minute * 60_000).collect()),
        Arc::new(Int8Array::from(vec![0; clicks.len()])),
        Arc::new(FixedSizeBinaryArray::try_from_iter(ids.into_iter()).unwrap()),
        Arc::new(vec!["a"; clicks.len()].into_iter().collect::<DictionaryArray<Int32Type>>()),
        times(vec![start; clicks.len()]),
    ];
    RecordBatch::try_new(NEEDED_SCHEMA.clone(), columns).unwrap()
}

fn plan(partitions: Vec<Vec<(u8, i64)>>, keys_move: bool) -> Result<Arc<dyn ExecutionPlan>> {
    let work = work(partitions.len() as u32, keys_move);
    let batches: Vec<_> = partitions.iter().map(|clicks| vec![batch(clicks)]).collect();
    let input = MemorySourceConfig::try_new_exec(&batches, NEEDED_SCHEMA.clone(), None)?;
    Ok(Arc::new(ExactCount::new(input, Arc::new(work))?))
}

/// What a scheduler needs for sending the operator to an executor.
#[derive(Debug)]
struct Codec;

impl PhysicalExtensionCodec for Codec {
    fn try_decode(
        &self,
        bytes: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &TaskContext,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let work: Work = serde_json::from_slice(bytes).unwrap();
        Ok(Arc::new(ExactCount::new(inputs[0].clone(), Arc::new(work))?))
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        bytes: &mut Vec<u8>,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let node = node.downcast_ref::<ExactCount>().unwrap();
        serde_json::to_writer(bytes, node.work()).unwrap();
        Ok(())
    }
}

#[tokio::test]
async fn the_plan_travels_as_bytes_and_counts_the_same() {
    let context = SessionContext::new();
    for keys_move in [false, true] {
        let plan = plan(vec![vec![(1, 0), (2, 1), (1, 30)], vec![(1, 2), (3, 40)]], keys_move).unwrap();
        let bytes = {
            let node = PhysicalPlanNode::try_from_physical_plan(plan.clone(), &Codec).unwrap();
            let mut bytes = Vec::new();
            node.try_encode(&mut bytes).unwrap();
            bytes
        };
        let node = PhysicalPlanNode::try_decode(&bytes).unwrap();
        let arrived = node.try_into_physical_plan(&context.task_ctx(), &Codec).unwrap();
        let shown = |plan: &Arc<dyn ExecutionPlan>| displayable(plan.as_ref()).indent(true).to_string();
        assert_eq!(shown(&arrived), shown(&plan));
        assert!(shown(&plan).contains("ExactCount: partitions=2"), "{}", shown(&plan));
        let work = |plan: &Arc<dyn ExecutionPlan>| plan.downcast_ref::<ExactCount>().unwrap().work().clone();
        assert_eq!(work(&arrived), work(&plan));
        let here = collect(plan, context.task_ctx()).await.unwrap();
        assert_eq!(collect(arrived, context.task_ctx()).await.unwrap(), here);
        assert!(here.iter().any(|batch| batch.num_rows() > 0));
    }
}

#[test]
fn partitions_that_are_not_named_are_refused() {
    let input = MemorySourceConfig::try_new_exec(&[vec![batch(&[(1, 0)])]], NEEDED_SCHEMA.clone(), None).unwrap();
    let error = ExactCount::new(input, Arc::new(work(2, false))).unwrap_err();
    assert!(error.to_string().contains("1 partitions come in, the work names 2"), "{error}");
}
