//! `history.jsonl`: what worked on a run, where and for how long. A run need not have it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::table::Table;
use crate::ReportError;
use crate::text::visible;

const HELP: &str = "delete the line; only the page's word on machines and times depends on it";

/// The training stage in words; measuring it again must not change a report.
pub(super) fn load_made(folder: &Path) -> Result<Option<String>, ReportError> {
    let path = folder.join("history.jsonl");
    if fs::metadata(&path).map_or(true, |file| file.len() == 0) {
        return Ok(None);
    }
    let table = Table::read(path, HELP, HELP)?;
    let (mut seconds, mut pieces, mut last) = (0.0, 0, None);
    for row in table.parsed()? {
        if row.text("stage")? != "training" {
            continue;
        }
        seconds += row.in_range("seconds", 0.0, f64::MAX)?;
        pieces += 1;
        let threads = row.field("threads", "a whole number")?.as_u64().unwrap_or(1);
        let word = |key: &str| row.fields.get(key).and_then(Value::as_str).map(visible);
        // Absent in runs of earlier versions.
        let engine = match (word("engine"), word("exactness")) {
            (Some(engine), Some(exactness)) => format!("; {engine}, {exactness}"),
            _ => String::new(),
        };
        let version = word("version").unwrap_or_default();
        let machine = visible(&row.text("machine")?);
        last = Some(format!("{threads} of the threads of {machine}; induction {version}{engine}"));
    }
    Ok(last.map(|last| {
        let times = if pieces == 1 { String::new() } else { format!(" in {pieces} pieces") };
        format!("{seconds:.0} s{times} on {last}")
    }))
}
