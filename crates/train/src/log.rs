use std::{
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use induction_files::AppendFile;
use induction_records::StepRow;

use crate::Error;

/// The metric log: appended to at each step, made durable before each snapshot, cut back to a
/// snapshot's length on resume.
pub(crate) struct MetricLog {
    path: PathBuf,
    file: BufWriter<AppendFile>,
    length: u64,
}

impl MetricLog {
    /// Opens the log and cuts it to `length`, the one that the snapshot of `step` was saved with.
    pub(crate) fn resume(path: &Path, length: u64, step: u64) -> Result<Self, Error> {
        let mut file = AppendFile::open(path).map_err(Error::io(path))?;
        let found = file.length().map_err(Error::io(path))?;
        if found < length {
            return Err(Error::ShortLog {
                path: path.to_path_buf(),
                found,
                step,
                expected: length,
            });
        }
        if found > length {
            file.cut(length).map_err(Error::io(path))?;
        }
        Ok(Self { path: path.to_path_buf(), file: BufWriter::new(file), length })
    }

    pub(crate) fn append(&mut self, metrics: &StepRow) -> Result<(), Error> {
        let mut line = serde_json::to_vec(metrics).expect("numbers and fixed keys");
        line.push(b'\n');
        self.file.write_all(&line).map_err(Error::io(&self.path))?;
        self.length += line.len() as u64;
        Ok(())
    }

    /// Makes every line durable; the log's length.
    pub(crate) fn sync(&mut self) -> Result<u64, Error> {
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync())
            .map_err(Error::io(&self.path))?;
        Ok(self.length)
    }
}

#[cfg(test)]
mod tests {
    use induction_torture::{attack, mutated};

    use super::*;

    /// Whatever became of the log: it is as long as the snapshot says, or refused.
    #[test]
    fn damaged_logs_are_resumed_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let line =
            StepRow { step: 1, tokens: 48, loss: 2.5, lr: 0.01, grad_norm: 1.5, tokens_per_s: 1e5 };
        let original = format!("{}\n", serde_json::to_string(&line).unwrap()).repeat(20);
        let length = original.len() as u64 * 3 / 4;
        let path = folder.path().join("metrics.jsonl");
        let tally = attack(
            "metrics.jsonl",
            &path,
            |seed| mutated(original.as_bytes(), seed),
            |path| {
                let before = std::fs::read(path).unwrap();
                MetricLog::resume(path, length, 15)?.append(&line)?;
                let after = std::fs::read(path).unwrap();
                assert!(
                    after[..length as usize] == before[..length as usize]
                        && after.ends_with(b"}\n")
                );
                Ok::<_, Error>(())
            },
        );
        tally.between(0.1, 0.6);
    }
}
