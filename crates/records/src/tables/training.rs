//! What training leaves: the metric log, and who worked on the run.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    Error, Row, Stage,
    read::{parse, read_text},
};

/// A line of `metrics.jsonl`: one optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRow {
    /// The step, from 1.
    pub step: u64,
    /// Training tokens learned from so far.
    pub tokens: u64,
    /// Loss of the step's batch before the update, in nats a token.
    #[serde(with = "crate::single::one")]
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Speed of this step. The only value that differs between two runs of one spec.
    pub tokens_per_s: f64,
}

impl Row for StepRow {
    const FILE: &'static str = "metrics.jsonl";
    const STAGE: Stage = Stage::Training;

    fn at(&self) -> (u64, u64) {
        (self.step, self.tokens)
    }
}

/// A line of `history.jsonl`: a stage that had something to do. For people: nothing depends on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryRow {
    /// Which stage.
    pub stage: String,
    /// For how long.
    pub seconds: f64,
    /// Processor, cores and memory, operating system.
    pub machine: String,
    /// The program's.
    pub version: String,
    /// The engine; absent in runs of earlier versions.
    pub engine: Option<String>,
    /// What a repetition may be expected to give; absent in runs of earlier versions.
    pub exactness: Option<String>,
    /// Threads it worked on.
    pub threads: usize,
}

impl HistoryRow {
    /// The file, in the run's folder.
    pub const FILE: &'static str = "history.jsonl";

    /// The lines of a run's history; none if there is no such file. Unlike a table it is only added
    /// to, and has no order but that of time.
    ///
    /// # Errors
    /// A file that cannot be read, or a line that is damaged.
    pub fn read(run: &Path) -> Result<Vec<Self>, Error> {
        let path = run.join(Self::FILE);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let text = read_text(&path, Stage::Training)?;
        let rows = text.lines().enumerate().map(|(k, line)| {
            let damaged = |problem| Error::History { path: path.clone(), line: k + 1, problem };
            let row: Self = parse(line).map_err(damaged)?;
            if row.seconds < 0.0 {
                return Err(damaged(format!(
                    "`seconds` is {}, expected a number from 0 upwards",
                    row.seconds
                )));
            }
            Ok(row)
        });
        rows.collect()
    }
}
