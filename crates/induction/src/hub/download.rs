use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hf_hub::{
    Cache, Repo, RepoType,
    api::{
        Progress,
        sync::{ApiBuilder, ApiError},
    },
};

use super::Place;
use crate::{Error, progress::Screen};

/// Whether a file of a model's folder is read.
fn is_read(name: &str) -> bool {
    const FILES: [&str; 8] = [
        "config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
        "merges.txt",
    ];
    let part = || name.strip_prefix("model-")?.strip_suffix(".safetensors");
    FILES.contains(&name) || part().is_some_and(|part| part.contains("-of-"))
}

/// A variable of the environment that says something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

pub(super) fn bring(place: &Place<'_>, text: &str, screen: &Screen) -> Result<PathBuf, Error> {
    let name = format!("{}/{}", place.owner, place.name);
    let at = |revision: &str| Repo::with_revision(name.clone(), RepoType::Model, revision.into());
    let revision = place.revision.unwrap_or("main");
    let cache =
        variable("HF_HUB_CACHE").map_or_else(Cache::from_env, |path| Cache::new(path.into()));
    if variable("HF_HUB_OFFLINE").is_some_and(|value| value != "0") {
        let file = place.file.unwrap_or("config.json");
        // A commit may be asked for by its own name, under which others than we keep no reference.
        let by_commit = || cache.repo(at(revision)).pointer_path(revision).join(file);
        let found = cache.repo(at(revision)).get(file).or_else(|| Some(by_commit()));
        return match found.filter(|path| path.exists()) {
            Some(path) if place.file.is_some() => Ok(path),
            Some(path) => Ok(path.parent().unwrap_or(Path::new("")).to_path_buf()),
            None => Err(Error::Input(format!(
                "{text}: HF_HUB_OFFLINE is set, and it is not in {}: it was never downloaded, or HF_HOME is another",
                cache.path().display()
            ))),
        };
    }

    let failed = |error: ApiError| Error::Input(format!("{text}: {}", in_words(&error)));
    let mut builder = ApiBuilder::from_cache(cache.clone()).with_progress(false);
    if let Some(endpoint) = variable("HF_ENDPOINT") {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(token) = variable("HF_TOKEN") {
        builder = builder.with_token(Some(token));
    }
    let hub = builder.build().map_err(failed)?;
    let info = hub.repo(at(revision)).info().map_err(failed)?;
    let there = info.siblings.iter().map(|file| file.rfilename.as_str());
    let files: Vec<&str> = there
        .filter(|file| place.file.map_or_else(|| is_read(file), |wanted| *file == wanted))
        .collect();
    if files.is_empty() {
        let lacks = place.file.unwrap_or("config.json");
        return Err(Error::Input(format!("{text}: there is no {lacks} on the hub")));
    }
    // By its commit: the revision may be a branch, and move while this goes on.
    let (commit, local) = (hub.repo(at(&info.sha)), cache.repo(at(revision)));
    let folder = local.pointer_path(&info.sha);
    for file in files.iter().filter(|file| !folder.join(file).exists()) {
        let mut shown = Shown::new(format!("{text}: {file}"), screen);
        let path = commit.download_with_progress(file, &mut shown).map_err(failed)?;
        whole(&path, shown.total)
            .map_err(|what| Error::Input(format!("{text}: {file}: {what}")))?;
    }
    let kept = local.create_ref(&info.sha);
    kept.map_err(|error| Error::Input(format!("{}: {error}", cache.path().display())))?;
    Ok(place.file.map_or_else(|| folder.clone(), |file| folder.join(file)))
}

/// Whether a file has the length that the hub said; one that has not does not stay. (What is left of
/// a download that broke is completed by the next, but a hub may send all of it again.)
fn whole(path: &Path, length: usize) -> Result<(), String> {
    let found = path.metadata().map_err(|error| error.to_string())?.len();
    if found == length as u64 {
        return Ok(());
    }
    // It is a link to what was downloaded.
    let blob = path.canonicalize().map_err(|error| error.to_string())?;
    let gone = [&blob, path].into_iter().try_for_each(induction_files::remove_file);
    gone.map_err(|error| error.to_string())?;
    Err(format!("{found} bytes came of {length}; try again"))
}

/// An error in one line, with what to do about it.
fn in_words(error: &ApiError) -> String {
    match error {
        ApiError::TooManyRetries(last) => in_words(last),
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(code @ (401 | 403)) => format!(
                "the hub refuses it ({code}): there is no such model, or it is not for everybody; HF_TOKEN says who asks"
            ),
            ureq::Error::StatusCode(404) => "not found on the hub".to_string(),
            ureq::Error::StatusCode(code) => format!("the hub answers with the status {code}"),
            ref other => format!(
                "the hub cannot be reached ({other}); with HF_HUB_OFFLINE=1 what was downloaded before is used"
            ),
        },
        other => other.to_string().replace('\n', " "),
    }
}

/// A line now and then on how far the download of a file is.
struct Shown {
    text: String,
    screen: Screen,
    begun: Instant,
    last: Instant,
    done: usize,
    total: usize,
}

impl Shown {
    fn new(text: String, screen: &Screen) -> Self {
        let begun = Instant::now();
        Self { text, screen: screen.clone(), begun, last: begun, done: 0, total: 0 }
    }
}

fn mega(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

impl Progress for &mut Shown {
    /// Once for the file, and again for each try.
    fn init(&mut self, size: usize, _: &str) {
        if self.total == 0 {
            self.screen.say(&format!("{}: {:.1} MB to download", self.text, mega(size)));
        }
        (self.done, self.total) = (0, size);
    }

    fn update(&mut self, size: usize) {
        const EVERY: Duration = Duration::from_secs(10);
        self.done += size;
        if self.last.elapsed() >= EVERY && self.done > 0 {
            let share = self.total as f64 / self.done as f64;
            let left = self.begun.elapsed().as_secs_f64() * (share - 1.0);
            self.screen.say(&format!(
                "{}: {:.0} of {:.0} MB, {left:.0} s left",
                self.text,
                mega(self.done),
                mega(self.total)
            ));
            self.last = Instant::now();
        }
    }

    fn finish(&mut self) {}
}
