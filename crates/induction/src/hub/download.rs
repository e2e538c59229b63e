use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use hf_hub::{
    HFClientSync, HFError,
    progress::{DownloadEvent, ProgressEvent, ProgressHandler},
};

use super::Place;
use crate::{Error, progress::Screen};

/// What is read of a model's folder.
const FILES: [&str; 7] = [
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
];

pub(super) fn bring(place: &Place<'_>, text: &str, screen: &Screen) -> Result<PathBuf, Error> {
    let offline =
        std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| !["", "0"].contains(&value.as_str()));
    let failed = |error: HFError| {
        let help = match &error {
            HFError::AuthRequired { .. } | HFError::Forbidden { .. } => "; HF_TOKEN says who asks",
            HFError::Request { .. } => "; with HF_HUB_OFFLINE=1 what was downloaded before is used",
            HFError::LocalEntryNotFound { .. } => {
                "; it was never downloaded, or HF_HOME is another"
            }
            _ => "",
        };
        Error::Input(format!("{text}: {}{help}", one_line(&error)))
    };
    let client = HFClientSync::new().map_err(failed)?;
    let model = client.model(place.owner, place.name);
    let progress = Shown::new(text, screen);
    let revision = place.revision.map(str::to_string);
    match place.file {
        Some(file) => model
            .download_file()
            .filename(file)
            .maybe_revision(revision)
            .local_files_only(offline)
            .progress(progress)
            .send(),
        None => model
            .snapshot_download()
            .allow_patterns(FILES.map(str::to_string).to_vec())
            .maybe_revision(revision)
            .local_files_only(offline)
            .progress(progress)
            .send(),
    }
    .map_err(failed)
}

/// An error with its causes, which the library's own message leaves out.
fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text += &format!(": {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// A line now and then on how far a download is.
struct Shown {
    text: String,
    screen: Screen,
    state: Mutex<State>,
}

struct State {
    begun: Instant,
    last: Instant,
    total: u64,
    files: BTreeMap<String, u64>,
    /// Of files that the hub sends in shared pieces, which are counted together.
    together: u64,
}

impl Shown {
    fn new(text: &str, screen: &Screen) -> Self {
        let (begun, files) = (Instant::now(), BTreeMap::new());
        let state = State { begun, last: begun, total: 0, files, together: 0 };
        Self { text: text.to_string(), screen: screen.clone(), state: state.into() }
    }
}

impl ProgressHandler for Shown {
    fn on_progress(&self, event: &ProgressEvent) {
        const EVERY: Duration = Duration::from_secs(10);
        let mega = |bytes: u64| bytes as f64 / 1e6;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            ProgressEvent::Download(DownloadEvent::Start { total_bytes, .. }) => {
                state.total = *total_bytes;
                self.screen.say(&format!(
                    "{}: {:.1} MB to download",
                    self.text,
                    mega(*total_bytes)
                ));
            }
            ProgressEvent::Download(DownloadEvent::Progress { files }) => {
                state
                    .files
                    .extend(files.iter().map(|file| (file.filename.clone(), file.bytes_completed)));
            }
            ProgressEvent::Download(DownloadEvent::AggregateProgress {
                bytes_completed, ..
            }) => {
                state.together = *bytes_completed;
            }
            _ => {}
        }
        let done = (state.files.values().sum::<u64>() + state.together).min(state.total);
        if state.last.elapsed() >= EVERY && done > 0 {
            let left =
                state.begun.elapsed().as_secs_f64() * (state.total as f64 / done as f64 - 1.0);
            self.screen.say(&format!(
                "{}: {:.0} of {:.0} MB, {left:.0} s left",
                self.text,
                mega(done),
                mega(state.total)
            ));
            state.last = Instant::now();
        }
    }
}
