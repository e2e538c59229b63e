//! Models on HuggingFace's hub: `hf:OWNER/NAME[/FILE.gguf][@REVISION]`, brought into the hub's own
//! cache.
//!
//! Where it is, and what is asked, is said as everywhere: `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`,
//! `HF_TOKEN`; `HF_HUB_OFFLINE=1` asks nobody and takes what the cache has.

#[cfg(feature = "hub")]
mod download;

use std::path::{Path, PathBuf};

#[cfg(feature = "hub")]
use self::download::bring;
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
    let (rest, revision) =
        rest.split_once('@').map_or((rest, None), |(rest, revision)| (rest, Some(revision)));
    let mut parts = rest.splitn(3, '/');
    let [owner, name, file] = [(); 3].map(|()| parts.next());
    let plain = |part: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && part.chars().all(fits) && !part.starts_with('.')
    };
    let place = match (owner, name) {
        (Some(owner), Some(name)) if plain(owner) && plain(name) => {
            Place { owner, name, file, revision }
        }
        _ => return Some(Err(malformed(text))),
    };
    let file_fits = file.is_none_or(|file| file.ends_with(".gguf") && file.split('/').all(plain));
    let fits = file_fits
        && revision.is_none_or(|revision| !revision.is_empty() && revision.split('/').all(plain));
    Some(if fits { Ok(place) } else { Err(malformed(text)) })
}

fn malformed(text: &str) -> Error {
    Error::Input(format!(
        "{text}: expected hf:OWNER/NAME, hf:OWNER/NAME@REVISION or hf:OWNER/NAME/FILE.gguf"
    ))
}

/// Where a model lies: `hf:...` is looked up in the hub's cache, and downloaded if it is not there
/// or has changed; any other path stays as it is.
///
/// # Errors
/// A place that cannot be one, a hub that does not answer or does not have it; without the feature
/// `hub`, every place.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_on_the_hub() {
        let of = |text| place(text).map(|place| place.map_err(|e| e.to_string()));
        let whole = Place { owner: "EleutherAI", name: "pythia-70m", file: None, revision: None };
        assert_eq!(of("hf:EleutherAI/pythia-70m"), Some(Ok(whole)));
        let step = Place {
            owner: "EleutherAI",
            name: "pythia-70m",
            file: None,
            revision: Some("step1000"),
        };
        assert_eq!(of("hf:EleutherAI/pythia-70m@step1000"), Some(Ok(step)));
        let file =
            Place { owner: "a", name: "b", file: Some("q/c.gguf"), revision: Some("refs/pr/1") };
        assert_eq!(of("hf:a/b/q/c.gguf@refs/pr/1"), Some(Ok(file)));
        assert_eq!(of("models/a.gguf"), None);
        for wrong in [
            "hf:",
            "hf:gpt2",
            "hf:a/",
            "hf:a/b/c.bin",
            "hf:a/b@",
            "hf:a/..",
            "hf:a/b/../c.gguf",
            "hf:a b/c",
        ] {
            assert!(
                of(wrong).is_some_and(|place| place.is_err_and(|e| e.contains("expected hf:OWNER/NAME"))),
                "{wrong}"
            );
        }
    }
}
