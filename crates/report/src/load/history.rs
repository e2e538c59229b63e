//! `history.jsonl`: what worked on a run, where and for how long. A run need not have it.

use std::path::Path;

use induction_records::HistoryRow;

use crate::ReportError;
use crate::text::visible;

/// The training stage in words; measuring it again must not change a report.
pub(super) fn load_made(folder: &Path) -> Result<Option<String>, ReportError> {
    let rows = HistoryRow::read(folder)?;
    let training: Vec<HistoryRow> =
        rows.into_iter().filter(|row| row.stage == "training").collect();
    let Some(last) = training.last() else { return Ok(None) };
    let seconds: f64 = training.iter().map(|row| row.seconds).sum();
    let pieces = training.len();
    let times = if pieces == 1 { String::new() } else { format!(" in {pieces} pieces") };
    // Absent in runs of earlier versions.
    let engine = match (&last.engine, &last.exactness) {
        (Some(engine), Some(exactness)) => {
            format!("; {}, {}", visible(engine), visible(exactness))
        }
        _ => String::new(),
    };
    let HistoryRow { threads, machine, version, .. } = last;
    let (machine, version) = (visible(machine), visible(version));
    Ok(Some(format!(
        "{seconds:.0} s{times} on {threads} of the threads of {machine}; induction {version}{engine}"
    )))
}
