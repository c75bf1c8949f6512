//! Hours and days as sums of minutes, by DataFusion.

use std::sync::Arc;

use clicks::window::Grain;
use datafusion::datasource::MemTable;

use crate::engine::Engine;
use crate::error::BatchError;
use crate::table::{Row, query_batch, rows_of_query};

/// Rows of a coarser grain from a day's minutes, sorted like every table.
pub(crate) async fn roll_up(engine: &Engine, minutes: &[Row], grain: Grain) -> Result<Vec<Row>, BatchError> {
    let batch = query_batch(minutes)?;
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
    let width = grain.width().as_millis();
    let name = format!("minutes_{grain}");
    engine.session().register_table(&name, Arc::new(table))?;
    // Windows are aligned to the epoch and floored, also before it.
    let sql = format!(
        "SELECT period_start - ((period_start % {width}) + {width}) % {width} AS period_start, ad_id, class, \
         sum(clicks) AS clicks, sum(duplicates) AS duplicates, sum(late) AS late \
         FROM {name} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    );
    let rolled = engine.session().sql(&sql).await?.collect().await;
    engine.session().deregister_table(&name)?;
    Ok(rows_of_query(&rolled?)?)
}
