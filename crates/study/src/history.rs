//! What worked on a run, where and for how long: `history.jsonl` in its folder. For people: nothing
//! depends on it.

use std::{io::Write as _, path::Path, time::Instant};

use induction_files::AppendFile;
use induction_records::{HistoryRow, Stage};

use crate::device::Device;

/// Runs a stage and adds its line, whether it ended well or not. A stage that found all done adds
/// none: it is told by its time, half a second.
pub fn timed<T>(run: &Path, stage: Stage, device: Device, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = work();
    let seconds = begun.elapsed().as_secs_f64();
    if seconds > 0.5 && run.is_dir() {
        let threads = rayon::current_num_threads();
        let version = env!("CARGO_PKG_VERSION");
        let engine = device.name();
        let exactness = serde_json::to_value(device.exactness()).ok();
        let exactness = exactness.and_then(|word| word.as_str().map(str::to_string));
        let seconds = (seconds * 10.0).round() / 10.0;
        let row = HistoryRow {
            stage: stage.word().to_string(),
            seconds,
            machine: machine(),
            version: version.to_string(),
            engine: Some(engine),
            exactness,
            threads,
        };
        let text = serde_json::to_string(&row).expect("plain structs serialize") + "\n";
        // A run is worth more than its history.
        if let Ok(mut file) = AppendFile::open(&run.join(HistoryRow::FILE)) {
            let _ = file.write_all(text.as_bytes());
        }
    }
    result
}

/// "AMD EPYC 7B13, 2 cores, 23 GiB, linux x86_64", as far as the system tells.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        line.split_once(':').map(|(_, value)| value.trim().to_string())
    };
    let mut parts = Vec::new();
    parts.extend(field(&read("/proc/cpuinfo"), "model name"));
    parts.extend(std::thread::available_parallelism().ok().map(|n| format!("{n} cores")));
    let memory = field(&read("/proc/meminfo"), "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    parts.extend(memory.map(|kib| format!("{:.0} GiB", kib / f64::from(1 << 20))));
    parts.push(format!("{} {}", std::env::consts::OS, std::env::consts::ARCH));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_time_is_kept() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(timed(run.path(), Stage::Training, Device::Cpu, || 1), 1);
        assert!(!run.path().join("history.jsonl").exists());
        timed(run.path(), Stage::Training, Device::Cpu, || {
            std::thread::sleep(std::time::Duration::from_millis(600));
        });
        let text = std::fs::read_to_string(run.path().join("history.jsonl")).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line["stage"], "training");
        assert!(
            line["seconds"].as_f64().unwrap() >= 0.6
                && line["machine"].as_str().unwrap().contains("cores")
        );
        assert_eq!((&line["engine"], &line["exactness"]), (&"cpu".into(), &"exact".into()));
    }
}
