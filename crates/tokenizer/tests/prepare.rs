//! The data folder: made once, whole or not at all, verified at every use.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use induction_tokenizer::{BOS, BpeTokenizer, Data, Error, Shard, Summary, Tokenizer, prepare};

const FILES: [&str; 4] = ["data.json", "held_out.tokens", "tokenizer.json", "train.tokens"];

struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    /// A folder corpus of this crate's own sources.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let corpus = folder.path().join("corpus");
        fs::create_dir(&corpus).unwrap();
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), corpus.join(entry.file_name())).unwrap();
            }
        }
        Self { folder }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn prepare(&self) -> Data {
        prepare(self.folder.path().join("corpus"), 320, 0.2, self.root()).unwrap()
    }

    /// Names in the data root, sorted.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = listing(&self.root());
        names.sort();
        names
    }
}

fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn contents(folder: &Path) -> Vec<Vec<u8>> {
    FILES.iter().map(|name| fs::read(folder.join(name)).unwrap()).collect()
}

#[test]
fn the_folder_holds_what_was_prepared() {
    let fixture = Fixture::new();
    let data = fixture.prepare();
    assert!(data.notes.is_empty());
    assert_eq!(listing(&data.folder), FILES);
    assert_eq!(fixture.names(), [data.folder.file_name().unwrap().to_str().unwrap()]);
    assert_eq!(data.folder.file_name().unwrap().len(), 16);

    let Summary { train_documents, held_out_documents, train_bytes, held_out_bytes, .. } =
        data.summary;
    let sources = listing(&fixture.folder.path().join("corpus"));
    // One of the sources has separators outside quotes, and is several documents.
    assert!(train_documents + held_out_documents >= sources.len());
    let share = held_out_bytes as f64 / (train_bytes + held_out_bytes) as f64;
    assert!((0.2..=0.5).contains(&share), "{share}");
    // A BOS before every document and nowhere else: these sources write it out, which must not
    // count.
    for (shard, documents) in [(&data.train, train_documents), (&data.held_out, held_out_documents)]
    {
        assert_eq!(shard.tokens[0], 0);
        assert_eq!(shard.tokens.iter().filter(|&&token| token == 0).count(), documents);
    }
    let ids: Vec<u32> = data.held_out.tokens.iter().map(|&token| token.into()).collect();
    let text = data.tokenizer.decode(&ids).unwrap();
    assert_eq!(text.len() as u64, held_out_bytes + (held_out_documents * BOS.len()) as u64);
}

#[test]
fn a_second_use_reads_what_the_first_made() {
    let fixture = Fixture::new();
    let first = fixture.prepare();
    let time = fs::metadata(first.folder.join("train.tokens")).unwrap().modified().unwrap();
    let second = fixture.prepare();
    assert_eq!(fs::metadata(second.folder.join("train.tokens")).unwrap().modified().unwrap(), time);
    assert_eq!(
        (second.train, second.held_out, second.summary),
        (first.train, first.held_out, first.summary)
    );
    // Another machine makes the same bytes.
    let other = Fixture::new();
    assert_eq!(contents(&other.prepare().folder), contents(&second.folder));
}

#[test]
fn each_setting_has_a_folder_of_its_own() {
    let fixture = Fixture::new();
    let corpus = fixture.folder.path().join("corpus");
    fixture.prepare();
    prepare(&corpus, 321, 0.2, fixture.root()).unwrap();
    prepare(&corpus, 320, 0.25, fixture.root()).unwrap();
    fs::write(corpus.join("another"), "one more document").unwrap();
    fixture.prepare();
    assert_eq!(fixture.names().len(), 4);
}

#[test]
fn the_tokenizer_has_not_seen_the_held_out_documents() {
    let fixture = Fixture::new();
    let data = fixture.prepare();
    let documents =
        induction_tokenizer::corpus::load(fixture.folder.path().join("corpus")).unwrap().documents;
    let everything = BpeTokenizer::train(&documents, 320).unwrap();
    let parts = induction_tokenizer::split(documents, 0.2).unwrap();
    let train_only = BpeTokenizer::train(&parts.train, 320).unwrap();
    let vocabulary =
        |t: &BpeTokenizer| (0..320).map(|id| t.token_text(id).unwrap()).collect::<Vec<_>>();
    assert_eq!(vocabulary(&data.tokenizer), vocabulary(&train_only));
    assert_ne!(vocabulary(&data.tokenizer), vocabulary(&everything));
}

#[test]
fn a_damaged_folder_is_set_aside_and_made_again() {
    let fixture = Fixture::new();
    let good = contents(&fixture.prepare().folder);
    let mut damaged = 0;
    for (file, name) in FILES.iter().enumerate() {
        let flip = |bytes: &mut Vec<u8>| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        };
        let truncate = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 3);
        for damage in [&flip as &dyn Fn(&mut Vec<u8>), &truncate] {
            let path = fixture.prepare().folder.join(name);
            let mut bytes = good[file].clone();
            damage(&mut bytes);
            fs::write(&path, &bytes).unwrap();
            let data = fixture.prepare();
            damaged += 1;
            assert_eq!(data.notes.len(), 1, "{name}: {:?}", data.notes);
            assert!(data.notes[0].contains("damaged"), "{:?}", data.notes);
            assert_eq!(contents(&data.folder), good, "{name}");
            let aside = data.folder.with_extension(format!("damaged-{damaged}"));
            assert_eq!(fs::read(aside.join(name)).unwrap(), bytes, "the damaged {name} is kept");
        }
        fs::remove_file(fixture.prepare().folder.join(name)).unwrap();
        damaged += 1;
        assert_eq!(fixture.prepare().notes.len(), 1, "{name} was missing");
    }
    assert_eq!(fixture.names().len(), damaged + 1);
}

#[test]
fn files_of_different_folders_do_not_pass_as_one() {
    let fixture = Fixture::new();
    let data = fixture.prepare();
    let short = Shard { d_vocab: 320, tokens: vec![0, 1] };
    short.write(data.folder.join("train.tokens")).unwrap();
    let again = fixture.prepare();
    assert!(again.notes[0].contains("train_tokens"), "{:?}", again.notes);
    assert_eq!(again.train, data.train);
}

#[test]
fn many_at_once_all_succeed() {
    let fixture = Fixture::new();
    let all: Vec<Data> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| fixture.prepare())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(all.iter().all(|data| data.train == all[0].train && data.notes.is_empty()));
    // One folder, and nothing left of those who came second.
    assert_eq!(fixture.names().len(), 1);
}

#[test]
fn bad_settings_are_refused_before_anything_is_made() {
    let fixture = Fixture::new();
    let corpus = fixture.folder.path().join("corpus");
    for (d_vocab, held_out) in [(256, 0.1), (65537, 0.1), (300, 0.0), (300, 0.6), (300, f64::NAN)] {
        assert!(matches!(
            prepare(&corpus, d_vocab, held_out, fixture.root()),
            Err(Error::Setting { .. })
        ));
    }
    assert!(!fixture.root().exists());
    assert!(matches!(
        prepare(&corpus, 65536, 0.1, fixture.root()),
        Err(Error::TooLittleText { .. })
    ));
    // A failed build leaves nothing, hidden or not.
    assert_eq!(fixture.names(), [""; 0]);
}
