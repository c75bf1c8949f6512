//! Adding up pieces: to the periods of a time zone, and to what each state has.

use super::{PeriodAnswer, Source, Split};
use crate::time::Interval;

impl Split {
    /// Nothing yet, and nothing that is missing.
    const NOTHING: Split = Split { clicks: None, adjustment: None, total: None, late_pending: Some(0), complete: true };

    /// The sum of some pieces.
    pub(super) fn of<'a>(pieces: impl IntoIterator<Item = &'a PeriodAnswer>) -> Self {
        pieces.into_iter().fold(Split::NOTHING, |sum, piece| Split {
            clicks: known(sum.clicks, piece.clicks),
            adjustment: known(sum.adjustment, piece.adjustment),
            total: known(sum.total, piece.total),
            late_pending: sum.late_pending.zip(piece.late_pending).map(|(sum, late)| sum + late),
            complete: sum.complete && piece.complete,
        })
    }
}

fn known(sum: Option<u64>, more: Option<u64>) -> Option<u64> {
    match (sum, more) {
        (Some(sum), Some(more)) => Some(sum + more),
        (sum, more) => sum.or(more),
    }
}

/// The answer for a period whose pieces are these.
pub(super) fn whole(period: Interval, pieces: &[PeriodAnswer]) -> PeriodAnswer {
    if let [piece] = pieces {
        return *piece;
    }
    // What nobody has counted is settled, and not worth a word beside the rest.
    let counted: Vec<&PeriodAnswer> = pieces.iter().filter(|piece| piece.source != Source::None).collect();
    let owned: Vec<&PeriodAnswer> = if counted.is_empty() { pieces.iter().collect() } else { counted };
    let Split { clicks, adjustment, total, late_pending, complete } = Split::of(pieces);
    let source = owned[0].source;
    let revision = owned[0].revision;
    PeriodAnswer {
        start: period.start,
        end: period.end,
        clicks,
        adjustment,
        total,
        late_pending,
        last_live: owned.iter().map(|piece| piece.last_live).sum(),
        late: owned.iter().map(|piece| piece.late).sum(),
        source: if owned.iter().all(|piece| piece.source == source) { source } else { Source::Mixed },
        state: owned.iter().map(|piece| piece.state).min_by_key(|state| state.settledness()).unwrap_or(pieces[0].state),
        revision: revision.filter(|_| owned.iter().all(|piece| piece.revision == revision)),
        complete,
    }
}
