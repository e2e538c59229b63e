//! A run's curves as TensorBoard's event files: what training logged, and every measurement of
//! every snapshot.
//!
//! An event file is a sequence of records (length, its checksum, bytes, their checksum) that each
//! hold one `Event` of TensorFlow's `event.proto`. Of that only scalars are needed, so the few
//! fields are written here by hand.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use induction_records::{HeadRow, IclRow, LossRow, RandomTokenRow, StepRow, read_rows};

use crate::{Error, plan::runs_of};

/// TensorBoard takes whatever has `tfevents` in its name. One name, so that exporting again
/// replaces the file.
const FILE: &str = "events.out.tfevents.0.induction";

/// Writes the curves of one run, or of every run of a reproduction, below `out`, a folder a run;
/// the folders.
///
/// The step is the optimizer's. Training's curves are `train/loss` (nats), `train/lr`,
/// `train/grad_norm`, `train/tokens_per_s`; of each snapshot there are `evaluation/loss`,
/// `evaluation/icl_score`, `evaluation/late_slope`, `evaluation/random_token_loss`,
/// `evaluation/best_prefix_matching`, and `MEASURE/L.H` for each measure of head H of layer L. The
/// wall time counts seconds of training from 0, so the same run gives the same bytes.
///
/// # Errors
/// A folder that is neither a run nor holds `runs/`, a damaged `metrics.jsonl`, the system's.
pub fn export(folder: &Path, out: &Path) -> Result<Vec<PathBuf>, Error> {
    let is_run = folder.join("spec.toml").exists();
    let runs = if is_run { vec![folder.to_path_buf()] } else { runs_of(folder)? };
    let write = |run: PathBuf| {
        // Canonical: `.` has no name.
        let named = run.canonicalize().map_err(Error::io(&run))?;
        let folder = out.join(named.file_name().unwrap_or_default());
        let events = events(&run)?;
        induction_files::make_folders(&folder).map_err(Error::io(&folder))?;
        let path = folder.join(FILE);
        induction_files::write_atomic(&path, &events).map_err(Error::io(&path))?;
        Ok(folder)
    };
    runs.into_iter().map(write).collect()
}

/// The event file of one run.
fn events(run: &Path) -> Result<Vec<u8>, Error> {
    let path = run.join("metrics.jsonl");
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    let mut file = Vec::new();
    // What makes a reader take the file for one.
    record(&mut file, &message(&[Field::Double(1, 0.0), Field::Bytes(3, b"brain.Event:2")]));

    let mut seconds = BTreeMap::from([(0, 0.0)]);
    let (mut so_far, mut tokens) = (0.0, 0);
    for (at, line) in text.lines().enumerate() {
        let line: StepRow = serde_json::from_str(line).map_err(|e| {
            let help = "the same `induction train` cuts a damaged end off";
            Error::Input(format!("{}, line {}: {e}; {help}", path.display(), at + 1))
        })?;
        if line.tokens_per_s > 0.0 {
            so_far += line.tokens.saturating_sub(tokens) as f64 / line.tokens_per_s;
        }
        tokens = line.tokens;
        seconds.insert(line.step, so_far);
        let scalars = [
            ("train/loss", line.loss),
            ("train/lr", line.lr),
            ("train/grad_norm", line.grad_norm),
            ("train/tokens_per_s", line.tokens_per_s),
        ];
        event(&mut file, so_far, line.step, scalars);
    }

    // A run that is not measured yet has only these curves.
    let tables = run.join("measurements");
    let at = |step: u64| seconds.range(..=step).next_back().map_or(0.0, |(_, seconds)| *seconds);
    for row in read_rows::<LossRow>(&tables).unwrap_or_default() {
        event(&mut file, at(row.step), row.step, [("evaluation/loss", row.loss)]);
    }
    for row in read_rows::<IclRow>(&tables).unwrap_or_default() {
        let scalars =
            [("evaluation/icl_score", row.icl_score), ("evaluation/late_slope", row.late_slope)];
        event(&mut file, at(row.step), row.step, scalars);
    }
    for row in read_rows::<RandomTokenRow>(&tables).unwrap_or_default() {
        event(&mut file, at(row.step), row.step, [("evaluation/random_token_loss", row.loss)]);
    }
    let heads = read_rows::<HeadRow>(&tables).unwrap_or_default();
    for of_step in heads.chunk_by(|a, b| a.step == b.step) {
        let step = of_step[0].step;
        let best = of_step.iter().map(|row| row.score("prefix_matching")).fold(0.0, f64::max);
        event(&mut file, at(step), step, [("evaluation/best_prefix_matching", best)]);
        for row in of_step {
            let measures = row
                .scores
                .iter()
                .filter(|(name, _)| !name.ends_with("_stderr") && !name.ends_with("_10"));
            let tags: Vec<(String, f64)> = measures
                .filter_map(|(name, score)| {
                    Some((format!("{name}/{}.{}", row.layer, row.head), (*score)?))
                })
                .collect();
            event(
                &mut file,
                at(step),
                step,
                tags.iter().map(|(tag, score)| (tag.as_str(), *score)),
            );
        }
    }
    Ok(file)
}

/// An `Event` with some scalars.
fn event<'a>(
    file: &mut Vec<u8>,
    wall_time: f64,
    step: u64,
    scalars: impl IntoIterator<Item = (&'a str, f64)>,
) {
    let mut summary = Vec::new();
    for (tag, value) in scalars {
        let value = message(&[Field::Bytes(1, tag.as_bytes()), Field::Float(2, value as f32)]);
        summary.extend(message(&[Field::Bytes(1, &value)]));
    }
    record(
        file,
        &message(&[Field::Double(1, wall_time), Field::Varint(2, step), Field::Bytes(5, &summary)]),
    );
}

/// A field of a protocol buffer: its number and its value.
enum Field<'a> {
    Varint(u8, u64),
    Double(u8, f64),
    Bytes(u8, &'a [u8]),
    Float(u8, f32),
}

fn message(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields {
        match *field {
            Field::Varint(number, value) => {
                out.push(number << 3);
                varint(&mut out, value);
            }
            Field::Double(number, value) => {
                out.push(number << 3 | 1);
                out.extend(value.to_le_bytes());
            }
            Field::Bytes(number, value) => {
                out.push(number << 3 | 2);
                varint(&mut out, value.len() as u64);
                out.extend(value);
            }
            Field::Float(number, value) => {
                out.push(number << 3 | 5);
                out.extend(value.to_le_bytes());
            }
        }
    }
    out
}

/// Seven bits a byte, the lowest first, the top bit of each saying whether another follows.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn record(file: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked(&length));
    file.extend(data);
    file.extend(masked(data));
}

/// CRC-32C, rotated and shifted: TensorFlow does so because a checksum of bytes that hold checksums
/// is weak.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that TensorBoard 2.21's own `EventFileWriter` and protocol buffers make of the
    /// same events.
    #[test]
    fn records_are_tensorboards() {
        let mut file = Vec::new();
        event(&mut file, 1.5, 300, [("train/loss", 2.25), ("a/0.1", -1.0)]);
        let expected = "2f000000000000006d5d1d5009000000000000f83f10ac022a210a110a0a747261696e2f6c6f737315000010400a0c0a05612f302e3115000080bf47f09e72";
        assert_eq!(file.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), expected);
    }

    #[test]
    fn what_is_no_run_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let error = export(folder.path(), &folder.path().join("out")).unwrap_err().to_string();
        assert!(error.contains("expected a reproduction's folder, which holds runs/"), "{error}");
        fs::write(folder.path().join("spec.toml"), "").unwrap();
        fs::write(folder.path().join("metrics.jsonl"), "{\"step\": 1}\n").unwrap();
        let error = export(folder.path(), &folder.path().join("out")).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl, line 1: missing field `tokens`"), "{error}");
        assert!(!folder.path().join("out").exists());
    }
}
