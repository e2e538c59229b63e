//! Models on HuggingFace's hub: `hf:OWNER/NAME[/FILE.gguf][@REVISION]`, brought into the hub's own cache.
//!
//! Where it is, and what is asked, is said as everywhere: `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN`;
//! `HF_HUB_OFFLINE=1` asks nobody and takes what the cache has.

use std::path::{Path, PathBuf};

use crate::{Error, progress::Screen};

/// A place on the hub.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "hub"), allow(dead_code, reason = "without the hub it is only checked"))]
struct Place<'a> {
    owner: &'a str,
    name: &'a str,
    /// A GGUF file; otherwise the repository is a model's folder.
    file: Option<&'a str>,
    revision: Option<&'a str>,
}

/// Nothing if `text` does not begin with `hf:`.
fn place(text: &str) -> Option<Result<Place<'_>, Error>> {
    let rest = text.strip_prefix("hf:")?;
    let (rest, revision) = rest.split_once('@').map_or((rest, None), |(rest, revision)| (rest, Some(revision)));
    let mut parts = rest.splitn(3, '/');
    let [owner, name, file] = [(); 3].map(|()| parts.next());
    let plain = |part: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && part.chars().all(fits) && !part.starts_with('.')
    };
    let place = match (owner, name) {
        (Some(owner), Some(name)) if plain(owner) && plain(name) => Place { owner, name, file, revision },
        _ => return Some(Err(malformed(text))),
    };
    let file_fits = file.is_none_or(|file| file.ends_with(".gguf") && file.split('/').all(plain));
    let fits = file_fits && revision.is_none_or(|revision| !revision.is_empty() && revision.split('/').all(plain));
    Some(if fits { Ok(place) } else { Err(malformed(text)) })
}

fn malformed(text: &str) -> Error {
    Error::Input(format!("{text}: expected hf:OWNER/NAME, hf:OWNER/NAME@REVISION or hf:OWNER/NAME/FILE.gguf"))
}

/// Where a model lies: `hf:...` is looked up in the hub's cache, and downloaded if it is not there or has changed; any
/// other path stays as it is.
///
/// # Errors
/// A place that cannot be one, a hub that does not answer or does not have it; without the feature `hub`, every place.
pub fn fetch(model: &Path, screen: &Screen) -> Result<PathBuf, Error> {
    match model.to_str().and_then(place) {
        None => Ok(model.to_path_buf()),
        Some(place) => bring(&place?, &model.display().to_string(), screen),
    }
}

#[cfg(not(feature = "hub"))]
fn bring(_: &Place<'_>, text: &str, _: &Screen) -> Result<PathBuf, Error> {
    Err(Error::Input(format!(
        "{text}: this build downloads nothing; build it with `cargo build --release --features hub`, or name a folder or file"
    )))
}

/// What is read of a model's folder.
#[cfg(feature = "hub")]
const FILES: [&str; 7] = [
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
];

#[cfg(feature = "hub")]
fn bring(place: &Place<'_>, text: &str, screen: &Screen) -> Result<PathBuf, Error> {
    let offline = std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| !["", "0"].contains(&value.as_str()));
    let failed = |error: hf_hub::HFError| {
        let help = match &error {
            hf_hub::HFError::AuthRequired { .. } | hf_hub::HFError::Forbidden { .. } => "; HF_TOKEN says who asks",
            hf_hub::HFError::Request { .. } => "; with HF_HUB_OFFLINE=1 what was downloaded before is used",
            hf_hub::HFError::LocalEntryNotFound { .. } => "; it was never downloaded, or HF_HOME is another",
            _ => "",
        };
        Error::Input(format!("{text}: {}{help}", one_line(&error)))
    };
    let client = hf_hub::HFClientSync::new().map_err(failed)?;
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
#[cfg(feature = "hub")]
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
#[cfg(feature = "hub")]
struct Shown {
    text: String,
    screen: Screen,
    state: std::sync::Mutex<State>,
}

#[cfg(feature = "hub")]
struct State {
    begun: std::time::Instant,
    last: std::time::Instant,
    total: u64,
    files: std::collections::BTreeMap<String, u64>,
    /// Of files that the hub sends in shared pieces, which are counted together.
    together: u64,
}

#[cfg(feature = "hub")]
impl Shown {
    fn new(text: &str, screen: &Screen) -> Self {
        let (begun, files) = (std::time::Instant::now(), std::collections::BTreeMap::new());
        let state = State { begun, last: begun, total: 0, files, together: 0 };
        Self { text: text.to_string(), screen: screen.clone(), state: state.into() }
    }
}

#[cfg(feature = "hub")]
impl hf_hub::progress::ProgressHandler for Shown {
    fn on_progress(&self, event: &hf_hub::progress::ProgressEvent) {
        use hf_hub::progress::{DownloadEvent, ProgressEvent};
        const EVERY: std::time::Duration = std::time::Duration::from_secs(10);
        let mega = |bytes: u64| bytes as f64 / 1e6;
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match event {
            ProgressEvent::Download(DownloadEvent::Start { total_bytes, .. }) => {
                state.total = *total_bytes;
                self.screen.say(&format!("{}: {:.1} MB to download", self.text, mega(*total_bytes)));
            }
            ProgressEvent::Download(DownloadEvent::Progress { files }) => {
                state.files.extend(files.iter().map(|file| (file.filename.clone(), file.bytes_completed)));
            }
            ProgressEvent::Download(DownloadEvent::AggregateProgress { bytes_completed, .. }) => {
                state.together = *bytes_completed;
            }
            _ => {}
        }
        let done = (state.files.values().sum::<u64>() + state.together).min(state.total);
        if state.last.elapsed() >= EVERY && done > 0 {
            let left = state.begun.elapsed().as_secs_f64() * (state.total as f64 / done as f64 - 1.0);
            self.screen.say(&format!(
                "{}: {:.0} of {:.0} MB, {left:.0} s left",
                self.text,
                mega(done),
                mega(state.total)
            ));
            state.last = std::time::Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_on_the_hub() {
        let of = |text| place(text).map(|place| place.map_err(|e| e.to_string()));
        let whole = Place { owner: "EleutherAI", name: "pythia-70m", file: None, revision: None };
        assert_eq!(of("hf:EleutherAI/pythia-70m"), Some(Ok(whole)));
        let step = Place { owner: "EleutherAI", name: "pythia-70m", file: None, revision: Some("step1000") };
        assert_eq!(of("hf:EleutherAI/pythia-70m@step1000"), Some(Ok(step)));
        let file = Place { owner: "a", name: "b", file: Some("q/c.gguf"), revision: Some("refs/pr/1") };
        assert_eq!(of("hf:a/b/q/c.gguf@refs/pr/1"), Some(Ok(file)));
        assert_eq!(of("models/a.gguf"), None);
        for wrong in ["hf:", "hf:gpt2", "hf:a/", "hf:a/b/c.bin", "hf:a/b@", "hf:a/..", "hf:a/b/../c.gguf", "hf:a b/c"] {
            assert!(
                of(wrong).is_some_and(|place| place.is_err_and(|e| e.contains("expected hf:OWNER/NAME"))),
                "{wrong}"
            );
        }
    }
}
