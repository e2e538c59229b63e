use super::cut::TXT_DOCUMENTS;
use super::*;
use proptest::prelude::*;

/// A corpus file or folder entry of this content, loaded.
fn loaded(name: &str, content: &[u8]) -> Result<Corpus> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    load(path)
}

fn refused(name: &str, content: &[u8], words: &[&str]) {
    let error = loaded(name, content).unwrap_err().to_string();
    for word in words.iter().chain([&name]) {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}

/// zstd's level does not matter to a reader; ruzstd writes whole frames with a checksum.
fn compressed(content: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(content, ruzstd::encoding::CompressionLevel::Fastest)
}

const TWO: &str = "{\"id\": \"a\", \"text\": \"one\"}\n\n{\"text\": \"zwei \\u2028\", \"id\": \"b\", \"lang\": 1}\n";

#[test]
fn the_same_documents_have_the_same_hash_in_every_kind_of_file() {
    let expected = [("a", "one"), ("b", "zwei \u{2028}")]
        .map(|(id, text)| Document { id: id.into(), text: text.into() });
    let plain = loaded("c.jsonl", TWO.as_bytes()).unwrap();
    assert_eq!((&plain.documents[..], plain.flaws.left_out), (&expected[..], 0));
    assert_eq!(loaded("c.jsonl.zst", &compressed(TWO.as_bytes())).unwrap(), plain);
    assert_eq!(loaded("c.JSONL", TWO.trim_end().as_bytes()).unwrap(), plain);

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("b"), "zwei \u{2028}").unwrap();
    fs::write(folder.path().join("a"), "one").unwrap();
    assert_eq!(load(folder.path()).unwrap(), plain);
}

#[test]
fn the_hash_sees_where_one_part_ends() {
    let hash = |parts: &[(&str, &str)]| {
        content_hash(
            &parts
                .iter()
                .map(|(id, text)| Document { id: (*id).into(), text: (*text).into() })
                .collect::<Vec<_>>(),
        )
    };
    let all =
        [&[("ab", "c")][..], &[("a", "bc")], &[("a", "b"), ("", "c")], &[("a", "b"), ("c", "")]];
    assert_eq!(all.map(hash).iter().collect::<HashSet<_>>().len(), all.len());
}

#[test]
fn zstd_files_of_several_frames_are_read_to_the_end() {
    let (first, second) = TWO.split_at(TWO.len() - 30);
    // A skippable frame, as `pzstd` and seekable archives put between.
    let skippable = [0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 9, 9, 9];
    let frames =
        [&compressed(first.as_bytes())[..], &skippable, &compressed(second.as_bytes())].concat();
    assert_eq!(loaded("c.jsonl.zst", &frames).unwrap().documents.len(), 2);
    refused("c.jsonl.zst", &frames[..frames.len() - 6], &["damaged zstd"]);
    refused("c.jsonl.zst", &[&frames[..], &skippable[..9]].concat(), &["skippable"]);
}

#[test]
fn a_flipped_bit_in_a_zstd_file_is_seen() {
    // Raw content bytes: without the checksum a flip here would only change a letter.
    let good = compressed(TWO.as_bytes());
    let at = good.windows(3).position(|w| w == b"one").unwrap();
    let mut bad = good;
    bad[at] ^= 1;
    refused("c.jsonl.zst", &bad, &["damaged zstd", "checksum"]);
}

#[test]
fn a_zstd_bomb_is_refused_without_being_held() {
    // One line of 100 MB in about 3 KB.
    let bomb = compressed(&vec![b' '; 100_000_000]);
    assert!(bomb.len() < 20_000, "{}", bomb.len());
    refused("c.jsonl.zst", &bomb, &["holds more than", "a file of its size"]);
}

#[test]
fn text_over_the_limit_is_refused_in_every_kind() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("corpus");
    fs::create_dir(&root).unwrap();
    for (name, content) in [("a.txt", "1\n2\n3\n"), ("b.jsonl", TWO)] {
        let path = root.join(name);
        fs::write(&path, content).unwrap();
        assert!(load_bounded(&(&path).into(), content.len() as u64).is_ok());
        assert!(matches!(
            load_bounded(&(&path).into(), content.len() as u64 - 1),
            Err(Error::TooLarge { .. })
        ));
    }
    let collection = folder.path().join("collection");
    fs::create_dir(&collection).unwrap();
    for name in ["a.jsonl", "b.jsonl"] {
        fs::write(collection.join(name), TWO).unwrap();
    }
    // Of a collection the first file counts by its text.
    let text = load(collection.join("a.jsonl"))
        .unwrap()
        .documents
        .iter()
        .map(|d| d.text.len())
        .sum::<usize>();
    fs::rename(root.join("b.jsonl"), root.join("b.txt")).unwrap();
    for (root, both) in [(root, TWO.len() + 6), (collection, TWO.len() + text)] {
        assert!(load_bounded(&(&root).into(), both as u64).is_ok());
        assert!(
            matches!(load_bounded(&(&root).into(), both as u64 - 1), Err(Error::TooLarge { path, .. }) if path == root)
        );
    }
}

#[test]
fn each_fault_is_named() {
    let line = |text: &str| format!("{TWO}{text}\n");
    refused(
        "c.jsonl",
        b"{\"id\": \"c\", \"words\": \"a\"}",
        &["line 1", "no text: it has `id`, `words`", "`content`", "--text-field", "jq -c"],
    );
    refused(
        "c.jsonl",
        line("{\"text\": [\"a\", \"b\"]}").as_bytes(),
        &["line 4", "`text` is [\"a\",\"b\"], expected a text"],
    );
    refused("c.jsonl", line("nonsense").as_bytes(), &["line 4", "expected"]);
    refused("c.jsonl", line("{\"id\": \"c\"").as_bytes(), &["line 4", "EOF"]);
    refused(
        "c.jsonl",
        b"{\"id\": \"\xff\", \"text\": \"\"}",
        &["line 1", "not UTF-8 at its byte 8"],
    );
    refused("c.jsonl", b"", &["no text in it (it is empty)"]);
    refused("c.jsonl", b"{\"id\": \"a\", \"text\": \"\"}", &["no text", "left out line 1 of"]);
    refused("c.jsonl", b"{\"id\": \"a\", \"text\": \"x\"}", &["1 document(s); at least 2"]);
    refused("c.jsonl.zst", b"not zstd at all", &["damaged zstd"]);
    refused("c.jsonl.zst", b"", &["no text"]);
    refused("c.txt", b"", &["no text"]);
    refused("c.txt", b"x", &["1 document(s)"]);
    refused("c.txt", b"caf\xe9\n", &["not UTF-8 at byte 3"]);
    refused("c.csv", b"id,words\n1,a\n", &["line 1", "it has `id`, `words`"]);
    refused("c.csv", b"id,text\n1,a,b\n", &["line 2", "3 fields"]);
    let tar = [&[b'x'; 257][..], b"ustar\0"].concat();
    refused("c.tar", &tar, &["a tar archive, not a text", "`tar xf`"]);
    refused(
        "c.txt",
        b"version https://git-lfs.github.com/spec/v1\n",
        &["pointer of git-lfs", "git lfs pull"],
    );
    if cfg!(feature = "parquet") {
        refused("c.parquet", b"PAR1\0\0..", &["damaged Parquet stream", "read_parquet"]);
    } else {
        let help = ["a Parquet file, not a text", "--features parquet", "to_json"];
        refused("c.parquet", b"PAR1\0\0..", &help);
    }
    refused("c.txt", b"\xff\xfeh\0i\0", &["UTF-16, not a text", "iconv -f utf-16"]);
    refused("c.txt", b"\x1f\x8b\x08rest", &["packed with gzip", "rename it to end in .gz"]);
    refused("c.txt.gz", b"not gzip at all", &["damaged gzip", "gzip -t", "take .gz off its name"]);
    refused("c.txt", &utf16("some words\n"), &["UTF-16", "iconv -f utf-16le"]);
    refused("c.jsonl", &utf16(TWO), &["UTF-16", "iconv -f utf-16le"]);
    refused("c.jsonl", &gzipped(TWO.as_bytes()), &["packed with gzip", "rename it to end in .gz"]);
    refused("c.json", b"[\"a\"]\n[\"b\"]\n", &["line 1", "it is a list, and not of messages"]);
    refused(
        "c.jsonl",
        b"{\"text\": \"a\"}{\"text\": \"b\"}",
        &["line 1", "several objects on one line"],
    );
    refused("c.json", b"[\"a\"][\"b\"]", &["trailing characters", "jq -c '.[]'"]);
    refused("c.json", b"{\n  \"data\": [\"a\"]\n}\n", &["over several lines", "jq -c '.KEY[]'"]);
    refused("c.json", b"[\"one\", 2]", &["item 2", "neither a text nor an object"]);
    refused("c.json", b"[\"one\", ", &["item 0", "EOF"]);
    let missing = load("nowhere.jsonl").unwrap_err().to_string();
    assert!(missing.contains("cannot read the corpus nowhere.jsonl"), "{missing}");
}

fn gzipped(content: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, content).unwrap();
    packed.finish().unwrap()
}

fn documents(name: &str, content: &[u8]) -> Vec<(String, String)> {
    let corpus = loaded(name, content).unwrap();
    corpus.documents.into_iter().map(|d| (d.id, d.text)).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(id, text)| ((*id).into(), (*text).into())).collect()
}

/// Lines as people's files have them.
#[test]
fn lines_of_json_need_no_id_and_may_have_a_number_for_one() {
    let lines = "\u{feff}{\"text\": \"one\"}\n{\"id\": 7, \"content\": \"two\"}\n{\"text\": null}\n{\"id\": null, \"story\": \"three\", \"n\": 1}\n";
    let expected = pairs(&[("1", "one"), ("7", "two"), ("4", "three")]);
    assert_eq!(documents("c.jsonl", lines.as_bytes()), expected);
    assert_eq!(loaded("c.jsonl", lines.as_bytes()).unwrap().flaws.left_out, 1);
    for (name, content) in [
        ("c.jsonl.gz", gzipped(lines.as_bytes())),
        ("c.ndjson", lines.as_bytes().to_vec()),
        ("c.json", lines.as_bytes().to_vec()),
        ("c.jsonl.zst", compressed(lines.as_bytes())),
    ] {
        assert_eq!(documents(name, &content), expected, "{name}");
    }
    // Two packed files, one after the other.
    let (first, second) = lines.split_at(lines.find("{\"id\": 7").unwrap());
    let both = [gzipped(first.as_bytes()), gzipped(second.as_bytes())].concat();
    assert_eq!(documents("c.jsonl.gz", &both), expected);
}

#[test]
fn a_list_of_json_is_of_texts_or_of_objects() {
    let list = b" [\"one\", {\"text\": \"two\", \"id\": \"b\"}, null, {\"content\": \"three\"}]";
    assert_eq!(documents("c.json", list), pairs(&[("1", "one"), ("b", "two"), ("4", "three")]));
}

#[test]
fn any_text_is_read_and_lines_end_as_they_do() {
    let lines = "a line of some words\r".repeat(100);
    for name in ["c.txt", "c.md", "c", "c.rst"] {
        let found = documents(name, lines.as_bytes());
        assert!(found.len() == 20 && found.iter().all(|(_, text)| text.ends_with('\r')), "{name}");
    }
    assert_eq!(documents("c.txt.gz", &gzipped(lines.as_bytes())).len(), 20);
}

/// Texts that were made for training have their separators spelled out; read as text, the string
/// would repeat in every window.
#[test]
fn documents_end_where_a_separator_is_spelled_out() {
    let text = "\u{feff}one\n<|endoftext|>\u{feff}two\n<|endoftext|>\n";
    assert_eq!(documents("c.txt", text.as_bytes()), pairs(&[("1", "one\n"), ("2", "two\n")]));
    let lines = "{\"id\": \"a\", \"text\": \"x<|end_of_text|><|begin_of_text|>y\"}\n{\"id\": \"b\", \"text\": \"\u{feff}z\"}\n";
    let code = "eot = \"<|endoftext|>\"; bos = '<|begin_of_text|>' # `<|endoftext|>`\n";
    assert_eq!(documents("c.txt", code.repeat(2).as_bytes()).len(), 2);
    // What is said ends, and another one begins: the quotes are those of stories.
    let stories =
        "\"Go!\"<|endoftext|>\"I went.\"<|endoftext|>She said \"no\"<|endoftext|>'Tis so.";
    assert_eq!(documents("s.txt", stories.as_bytes()).len(), 4);
    let expected = pairs(&[("a/1", "x"), ("a/2", "y"), ("b", "z")]);
    assert_eq!(documents("c.jsonl", lines.as_bytes()), expected);
}

#[test]
fn a_folder_is_its_text_files_by_path() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    write(".git/config", b"hidden");
    write("image.png", b"\x89PNG\xff");
    write("empty", b"");
    let nothing = load(folder.path()).unwrap_err().to_string();
    assert!(nothing.contains("no text in it (left out 2, the first empty (empty)"), "{nothing}");
    write("z", b"last");
    write("a/b/c.py", b"first");
    write("a/.hidden", b"hidden");
    #[cfg(unix)]
    std::os::unix::fs::symlink(folder.path(), folder.path().join("a/loop")).unwrap();
    let corpus = load(folder.path()).unwrap();
    let ids: Vec<_> = corpus.documents.iter().map(|d| d.id.as_str()).collect();
    assert_eq!((ids, corpus.flaws.left_out), (vec!["a/b/c.py", "z"], 2));
}

#[test]
fn a_text_is_cut_at_blank_lines_where_there_are_enough() {
    let paragraph = "Some words,\nand some more of them.\n";
    let text = [paragraph; 200].join("\r\n");
    let documents = cut_text(&text);
    assert_eq!(documents.len(), 20);
    assert_eq!((documents[0].id.as_str(), documents[19].id.as_str()), ("part-01", "part-20"));
    assert!(documents.iter().all(|d| d.text.starts_with("Some words")));
    // One blank line near the top does not make a document of nearly everything.
    let text = format!("Title\n\n{}", "line of text\n".repeat(200));
    let documents = cut_text(&text);
    assert_eq!(documents.len(), 20);
    assert!(documents.iter().all(|d| (100..200).contains(&d.text.len())));
}

/// What a text is cut into, whatever file it is alone in.
fn cut_of(text: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("only"), text).unwrap();
    let line = serde_json::json!({"id": "only", "text": text}).to_string();
    let lone = loaded("c.jsonl", line.as_bytes()).unwrap();
    assert_eq!(lone, load(folder.path()).unwrap());
    assert!(lone.documents[0].id == "only/part-01", "{}", lone.documents[0].id);
    let texts = |corpus: Corpus| corpus.documents.into_iter().map(|d| d.text).collect::<Vec<_>>();
    let parts = texts(lone);
    assert_eq!(texts(loaded("c.txt", text.as_bytes()).unwrap()), parts);
    assert_eq!(parts.concat(), text);
    parts
}

#[test]
fn a_lone_document_is_cut_at_the_best_places_that_there_are() {
    let parts = cut_of(&"A paragraph.\nOf two lines.\n\n".repeat(100));
    assert!(parts.len() == 20 && parts.iter().all(|part| part.ends_with(".\n\n")));
    let parts = cut_of(&"A line. And more of it.\n".repeat(100));
    assert!(parts.len() == 20 && parts.iter().all(|part| part.ends_with('\n')));
    let parts = cut_of(&"A sentence, of some words. Is it? It is! ".repeat(100));
    assert!(
        parts.len() == 20
            && parts.iter().all(|part| [". ", "? ", "! "].iter().any(|end| part.ends_with(end)))
    );
    let parts = cut_of(&"\u{6587}\u{5b57}\u{3002}".repeat(100));
    assert!(parts.len() == 20 && parts.iter().all(|part| part.ends_with('\u{3002}')));
    let parts = cut_of(&"words and more of them without a stop ".repeat(100));
    assert!(parts.len() == 20 && parts.iter().all(|part| part.ends_with(' ')));
    for text in ["x", "\u{e9}", "\u{6587}", "\u{1f600}"] {
        let parts = cut_of(&text.repeat(1000));
        assert_eq!(parts.len(), 20);
        assert!(parts.iter().all(|part| part.len().abs_diff(50 * text.len()) <= 2 * text.len()));
    }
    // Of too little text there is at least something to hold out.
    assert_eq!(cut_of("ab"), ["a", "b"]);
}

#[test]
fn a_title_does_not_keep_a_document_whole() {
    let text = format!("Title\n\n{}", "a sentence of one long line. ".repeat(200));
    let line = serde_json::json!({"id": "only", "text": text}).to_string();
    let corpus = loaded("c.jsonl", line.as_bytes()).unwrap();
    assert!(
        corpus.documents.len() >= 19 && corpus.documents.iter().all(|d| d.text.ends_with(". "))
    );
}

#[test]
fn what_was_read_before_is_read_as_it_was() {
    // Another hash would mean that stored runs no longer find their text. A `.txt` of two lines is
    // two documents, however unequal: lone texts alone are cut more finely.
    let unequal = format!("Title\n{}", "a sentence of one long line. ".repeat(200));
    assert_eq!(loaded("c.txt", unequal.as_bytes()).unwrap().documents.len(), 2);
    let paragraphs = "Some words,\nand some more of them.\n\n".repeat(200);
    let hashes = [("c.txt", &*unequal), ("c.txt", &*paragraphs), ("c.jsonl", TWO)]
        .map(|(name, text)| loaded(name, text.as_bytes()).unwrap().blake3[..16].to_owned());
    assert_eq!(hashes, ["2b3ee3c1b1a58d27", "9198c1ad3aca2fcb", "7e53aa2e13a312b2"]);
}

proptest! {
    #[test]
    fn cutting_a_lone_document_loses_nothing(text in "([a-zé。. ]{0,40}\r?\n?){0,20}") {
        prop_assume!(text.chars().count() > 1);
        let whole = Document { id: "only".into(), text };
        let documents = cut_lone(&whole);
        prop_assert_eq!(documents.iter().map(|d| d.text.as_str()).collect::<String>(), whole.text);
        prop_assert!(documents.iter().all(|d| !d.text.is_empty()));
        prop_assert!((2..=TXT_DOCUMENTS).contains(&documents.len()));
    }

    #[test]
    fn cutting_loses_nothing(text in "([a-zé ]{0,9}\r?\n?){0,80}") {
        let documents = cut_text(&text);
        prop_assert_eq!(documents.iter().map(|d| d.text.as_str()).collect::<String>(), text);
        prop_assert!(documents.iter().all(|d| !d.text.is_empty()) && documents.len() <= TXT_DOCUMENTS);
    }
}

#[test]
fn a_folder_of_json_lines_is_their_documents() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("b.jsonl"), "{\"id\": \"x\", \"text\": \"two\"}\n").unwrap();
    fs::write(folder.path().join("a.JSONL"), "{\"id\": \"x\", \"text\": \"one\"}\n").unwrap();
    fs::write(folder.path().join("LICENCE"), "not text to learn").unwrap();
    let corpus = load(folder.path()).unwrap();
    let documents: Vec<_> =
        corpus.documents.iter().map(|d| (d.id.as_str(), d.text.as_str())).collect();
    assert_eq!(documents, [("a.JSONL/x", "one"), ("b.jsonl/x", "two")]);
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Ids that people's files have: none that is one, labels, and whatever a database made.
#[test]
fn every_document_has_an_id_of_its_own() {
    let lines = [
        r#"{"id": 2, "text": "a"}"#,
        r#"{"text": "b"}"#,
        r#"{"id": "", "text": "c"}"#,
        r#"{"id": "label", "text": "d"}"#,
        r#"{"id": "label", "text": "e"}"#,
        r#"{"id": 0.5, "text": "f"}"#,
        r#"{"id": true, "text": "g"}"#,
        r#"{"id": {"$oid": "5f"}, "text": "h"}"#,
    ];
    let ids: Vec<String> =
        documents("c.jsonl", lines.join("\n").as_bytes()).into_iter().map(|(id, _)| id).collect();
    let expected = ["2", "2#2", "3", "label", "label#5", "0.5", "true", r#"{"$oid":"5f"}"#];
    assert_eq!(ids, expected);
    let list = format!("[{}]", lines.join(","));
    let of_list = documents("c.json", list.as_bytes());
    assert!(of_list.iter().map(|(id, _)| id).eq(&expected));
}

/// What nothing reads cannot be wrong, and what Python writes is read.
#[test]
fn lines_of_json_are_read_as_they_are_written() {
    let deep = "[".repeat(300) + &"]".repeat(300);
    let lines = [
        r#"{"text": "a", "score": NaN, "other": -Infinity}"#.to_owned(),
        r#"{"text": "NaN is \\\" NaN", "score": Infinity}"#.to_owned(),
        r#"{"n": 1e999, "text": "c"}"#.to_owned(),
        format!(r#"{{"n": {deep}, "text": "d"}}"#),
        r#"{"title": "\ud83d", "text": "e \ud83d\ude00 \ud83d f \udc00"}"#.to_owned(),
        r#"{"text": null, "content": "g"}"#.to_owned(),
        r#"{"text": "", "content": "h"}"#.to_owned(),
        r#"{"Text": "i"}"#.to_owned(),
        r#""j""#.to_owned(),
    ];
    let corpus = loaded("c.jsonl", lines.join("\n").as_bytes()).unwrap();
    assert_eq!((corpus.flaws.left_out, corpus.flaws.mended), (0, 3));
    assert!(corpus.notes("c")[0].starts_with("c: 3 halves of characters"));
    let texts: Vec<String> = corpus.documents.into_iter().map(|d| d.text).collect();
    let mended = "e \u{1f600} \u{fffd} f \u{fffd}";
    assert_eq!(texts, ["a", "NaN is \\\" NaN", "c", "d", mended, "g", "h", "i", "j"]);
}

proptest! {
    /// What is right is read as it is, whatever is in its strings.
    #[test]
    fn only_what_is_no_json_is_mended(texts in prop::collection::vec(".{0,40}|(NaN|\\\\|\"|\u{1f600}){0,6}", 1..5)) {
        let json = serde_json::to_vec(&texts).unwrap();
        prop_assert_eq!(json::mended(&json), None);
    }
}

#[test]
fn what_pads_a_gzip_file_is_no_text() {
    let padded = [gzipped(TWO.as_bytes()), vec![0; 512]].concat();
    assert_eq!(loaded("c.jsonl.gz", &padded).unwrap(), loaded("c.jsonl", TWO.as_bytes()).unwrap());
    refused("c.jsonl.gz", &[&padded[..], b"x"].concat(), &["damaged gzip"]);
}

#[cfg(unix)]
#[test]
fn links_to_files_are_files() {
    let (blobs, folder) = (folder_of(&[("0", "one"), ("1", "two")]), tempfile::tempdir().unwrap());
    for (blob, name) in [("0", "a.txt"), ("1", "b.txt")] {
        std::os::unix::fs::symlink(blobs.path().join(blob), folder.path().join(name)).unwrap();
    }
    std::os::unix::fs::symlink("nowhere", folder.path().join("c.txt")).unwrap();
    assert_eq!(of(load(folder.path()).unwrap()), pairs(&[("a.txt", "one"), ("b.txt", "two")]));
}

/// A folder of these files.
fn folder_of(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

fn of(corpus: Corpus) -> Vec<(String, String)> {
    corpus.documents.into_iter().map(|d| (d.id, d.text)).collect()
}

#[test]
fn settings_in_json_do_not_make_a_program_a_collection() {
    let program = [("main.js", "run();"), ("package.json", "{\n  \"name\": \"x\"\n}\n")];
    let ids = |folder: &tempfile::TempDir| {
        of(load(folder.path()).unwrap()).into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&folder_of(&program)), ["main.js", "package.json"]);
    // As datasets come: objects, and beside them what they are.
    let two = TWO.replace("\n\n", "\n");
    let dataset = [("README.md", "# About"), ("LICENSE", "MIT"), ("part-0.json", &two)];
    assert_eq!(ids(&folder_of(&dataset)), ["part-0.json/a", "part-0.json/b"]);
    // What is not read beside rows is told.
    let folder =
        folder_of(&[("a.jsonl", TWO), ("b.txt", "three"), ("c.md", "four"), ("README", "")]);
    let notes = load(folder.path()).unwrap().notes("x");
    assert_eq!(
        notes,
        ["x: left out 2, the first b.txt (beside a.jsonl, whose rows are the documents)"]
    );
}

/// What files are called is no more than a hint.
#[test]
fn lines_of_json_are_known_by_what_they_are() {
    for name in ["c.jsonlines", "train", "c.txt", "c.jl", "c.jsonl.1"] {
        let expected = pairs(&[("a", "one"), ("b", "zwei \u{2028}")]);
        assert_eq!(documents(name, TWO.as_bytes()), expected, "{name}");
    }
    // A program that begins with a brace is one.
    assert_eq!(documents("c.c", b"{\n  run();\n}\n\nmore\n")[0].1, "{\n");
    // Of two spellings of a key the exact one.
    let lines = "{\"Text\": \"title\", \"text\": \"one\"}\n{\"Text\": \"two\"}\n";
    assert_eq!(documents("c.jsonl", lines.as_bytes()), pairs(&[("1", "one"), ("2", "two")]));
    let lines =
        "{\"text\": \"no\", \"text\": \"one\"}\n{\"text\": \"\", \"document\": 6}\n\"two\"\n";
    assert_eq!(documents("c.jsonl", lines.as_bytes()), pairs(&[("1", "one"), ("3", "two")]));
}

#[test]
fn a_folder_is_what_most_of_it_is() {
    let ids = |files: &[(&str, &str)]| {
        let corpus = load(folder_of(files).path()).unwrap();
        let first = corpus.flaws.first.clone().unwrap_or_default();
        (of(corpus).into_iter().map(|(id, _)| id).collect::<Vec<_>>(), first)
    };
    let list = r#"[{"text": "the first of two texts"}, {"text": "the second of two texts"}]"#;
    let (rows, first) =
        ids(&[("train.json", list), ("load.py", "import x\n"), ("README.md", "# x")]);
    assert_eq!(rows, ["train.json/1", "train.json/2"]);
    assert!(first.starts_with("load.py (beside train.json"), "{first}");
    let text = "a text of some words, longer than what is said of it ".repeat(4);
    let (texts, first) = ids(&[("0.txt", &text), ("1.txt", "another"), ("metadata.jsonl", TWO)]);
    assert_eq!(texts, ["0.txt", "1.txt"]);
    assert_eq!(first, "metadata.jsonl (rows, beside more text)");
    // What `datasets` saves is not its settings.
    let saved = folder_of(&[
        ("state.json", "{}"),
        ("data-0.arrow", "\u{1}\u{2}...."),
        ("dataset_info.json", "{\n}"),
    ]);
    let error = load(saved.path()).unwrap_err().to_string();
    assert!(error.contains("data-0.arrow: an Arrow file") && error.contains("to_json"), "{error}");
}

#[test]
fn several_paths_are_one_corpus() {
    let folder = folder_of(&[("a.txt", "one\n\ntwo\n"), ("b.md", "three"), ("c.jsonl", TWO)]);
    let paths = ["c.jsonl", "a.txt", "b.md"].map(|name| folder.path().join(name));
    let texts = Texts { paths: paths.to_vec(), text_field: None };
    assert_eq!(texts.name(), "c.jsonl and 2 more");
    let expected = pairs(&[
        ("c.jsonl/a", "one"),
        ("c.jsonl/b", "zwei \u{2028}"),
        ("a.txt", "one\n\ntwo\n"),
        ("b.md", "three"),
    ]);
    assert_eq!(of(load(texts.clone()).unwrap()), expected);
    // Files of one name from two folders, and a folder.
    let other = folder_of(&[("b.md", "four"), ("d.md", "five")]);
    let paths = vec![paths[2].clone(), other.path().join("b.md"), other.path().to_owned()];
    let found = of(load(Texts { paths, text_field: None }).unwrap());
    let ids: Vec<&str> = found.iter().map(|(id, _)| id.as_str()).collect();
    let name = name_of(other.path());
    // What the folder has once more is left out.
    assert_eq!(ids, ["b.md", "b.md#2", &format!("{name}/d.md")]);
    let twice = Texts { paths: vec![texts.paths[0].clone(), texts.paths[0].clone()], ..texts };
    let error = load(twice).unwrap_err().to_string();
    assert!(error.contains("c.jsonl: expected each file once"), "{error}");
    assert!(load(Texts::default()).is_err());
}

#[test]
fn the_text_is_where_the_user_says() {
    let lines = "{\"text\": \"no\", \"code\": \"one\"}\n{\"code\": \"two\", \"n\": 1}\n";
    let folder = folder_of(&[("c.jsonl", lines)]);
    let asked = |key: &str| Texts {
        text_field: Some(key.to_owned()),
        ..Texts::from(folder.path().join("c.jsonl"))
    };
    assert_eq!(of(load(asked("code")).unwrap()), pairs(&[("1", "one"), ("2", "two")]));
    let error = load(asked("")).unwrap_err().to_string();
    assert!(error.contains("text_field = \"\": expected the name of a key"), "{error}");
    fs::write(folder.path().join("c.txt"), "some words\nof a text\n").unwrap();
    let texts = Texts { paths: vec![folder.path().join("c.txt")], ..asked("code") };
    let error = load(texts).unwrap_err().to_string();
    assert!(error.contains("c.txt is a text without keys"), "{error}");
    let error = load(asked("prose")).unwrap_err().to_string();
    assert!(error.contains("it has `text`, `code`, and no `prose`"), "{error}");
}

#[test]
fn a_chat_is_what_is_said_in_it() {
    let lines = [
        r#"{"messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]}"#,
        r#"{"id": "x", "conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "I."}]}"#,
        r#"{"messages": [{"role": "assistant", "content": null}]}"#,
    ];
    let expected = pairs(&[("1", "Hi.\n\nHello."), ("x", "Who?\n\nI.")]);
    assert_eq!(documents("c.jsonl", lines.join("\n").as_bytes()), expected);
    refused(
        "c.jsonl",
        br#"{"messages": [{"speaker": "user", "parts": []}]}"#,
        &["line 1", "a list of messages with `content`"],
    );
    // One that calls a tool, one whose content is elsewhere, and all of them as a text of JSON.
    let odd =
        r#"[{"role": "a", "tool_calls": []}, {"role": "b", "content": null, "value": "Yes."}]"#;
    let lines = format!(
        "{{\"messages\": {odd}}}\n{}\n",
        serde_json::json!({"messages": odd.replace("Yes", "No")})
    );
    assert_eq!(documents("c.jsonl", lines.as_bytes()), pairs(&[("1", "Yes."), ("2", "No.")]));
    // Content in parts, and messages without an object around them.
    let parts = r#"[{"role": "user", "content": [{"type": "text", "text": "Hi."}, {"type": "image_url"}]}, {"role": "a", "content": "Hello."}]"#;
    let lines = format!("{parts}\n{{\"messages\": {}}}\n", parts.replace("Hi.", "Ho."));
    let expected = pairs(&[("1", "Hi.\n\nHello."), ("2", "Ho.\n\nHello.")]);
    assert_eq!(documents("c.jsonl", lines.as_bytes()), expected);
}

/// What is no text in most documents, and not taken out, is said.
#[test]
fn markup_in_most_documents_is_said() {
    let line = |k: usize, text: &str| format!("{}\n", serde_json::json!(format!("{text} {k}")));
    let of = |marked: usize| {
        let text = |k: usize| if k < marked { "<|im_start|>user hi" } else { "hi" };
        let lines: String = (0..10).map(|k| line(k, text(k))).collect();
        loaded("c.jsonl", lines.as_bytes()).unwrap()
    };
    assert_eq!(of(5).flaws.markup, None);
    assert_eq!(of(6).flaws.markup, Some(("<|im_start|>", 6)));
    let notes = of(6).notes("c");
    assert!(notes[0].starts_with("c: 6 documents contain `<|im_start|>`"), "{notes:?}");
}

/// An object without the text, among others that have it, is one without text.
#[test]
fn lines_without_the_key_are_left_out() {
    let lines = "{\"text\": \"one\"}\n{\"title\": \"x\"}\n{\"text\": \"two\"}\n";
    let corpus = loaded("c.jsonl", lines.as_bytes()).unwrap();
    assert_eq!((corpus.documents.len(), corpus.flaws.left_out), (2, 1));
    let first = corpus.flaws.first.unwrap();
    assert!(first.starts_with("line 2 of") && first.ends_with("c.jsonl (no `text`)"), "{first}");
}

#[test]
fn rows_of_a_table_are_documents() {
    let table = "\u{feff}id,Text,n\na,\"one, \"\"two\"\"\nthree\",1\n,four,2\nb,,3\n";
    let corpus = loaded("c.csv", table.as_bytes()).unwrap();
    assert_eq!(corpus.flaws.left_out, 1);
    assert_eq!(of(corpus), pairs(&[("a", "one, \"two\"\nthree"), ("2", "four")]));
    assert_eq!(
        documents("c.tsv", b"story\tn\none\t1\ntwo\t2\n"),
        pairs(&[("1", "one"), ("2", "two")])
    );
    assert_eq!(documents("c.csv.gz", &gzipped(table.as_bytes())).len(), 2);
}

/// Held out and trained on, a text would be measured as learned.
#[test]
fn a_document_is_read_once() {
    let line = |id: &str, text: &str| format!("{}\n", serde_json::json!({"id": id, "text": text}));
    let lines = line("a", "one") + &line("b", "two") + &line("c", "one") + &line("d", "one\n");
    let corpus = loaded("c.jsonl", lines.as_bytes()).unwrap();
    assert_eq!(corpus.flaws.repeated, 2);
    assert_eq!(of(corpus), pairs(&[("a", "one"), ("b", "two")]));
    // A text that says a thing twice is no two texts.
    let text = "the same line\n".repeat(40);
    let corpus = loaded("c.txt", text.as_bytes()).unwrap();
    assert_eq!((corpus.documents.len(), corpus.flaws.repeated), (20, 0));
}

#[cfg(feature = "parquet")]
#[test]
fn rows_of_parquet_are_documents() {
    let lines = [
        r#"{"id": "a", "score": 0.5, "text": "one"}"#,
        r#"{"id": "b", "score": null, "text": "zwei \u2028\n\"x\""}"#,
        r#"{"id": "c", "score": 1, "text": null}"#,
    ];
    let parquet = induction_files::parquet_of_json_lines(lines.join("\n").as_bytes()).unwrap();
    let corpus = loaded("c.parquet", &parquet).unwrap();
    assert_eq!(corpus.flaws.left_out, 1);
    assert_eq!(of(corpus), pairs(&[("a", "one"), ("b", "zwei \u{2028}\n\"x\"")]));
    let chats = r#"{"messages": [{"role": "user", "content": "Hi."}, {"role": "a", "content": "Hello."}]}
{"messages": [{"role": "user", "content": "Who?"}]}"#;
    let chats = induction_files::parquet_of_json_lines(chats.as_bytes()).unwrap();
    assert_eq!(documents("c.parquet", &chats), pairs(&[("1", "Hi.\n\nHello."), ("2", "Who?")]));
    // Numbers are no texts, whatever they are called.
    let numbers = b"{\"text\": 1, \"content\": \"one\"}\n{\"text\": 2, \"content\": \"two\"}";
    let numbers = induction_files::parquet_of_json_lines(numbers).unwrap();
    assert_eq!(documents("c.parquet", &numbers), pairs(&[("1", "one"), ("2", "two")]));
    let other = induction_files::parquet_of_json_lines(b"{\"words\": \"a\"}").unwrap();
    refused("c.parquet", &other, &["it has `words`", "--text-field"]);
    for at in (0..parquet.len()).step_by(7) {
        let mut damaged = parquet.clone();
        damaged[at] ^= 0x55;
        // Another letter, or an error; no panic.
        let _ = loaded("c.parquet", &damaged);
        refused_or_empty(&parquet[..at]);
    }
}

#[cfg(feature = "parquet")]
fn refused_or_empty(content: &[u8]) {
    assert!(loaded("c.parquet", content).is_err());
}
