//! `hf:OWNER/NAME` against a hub of our own: a few answers over HTTP, as HuggingFace's gives them.

#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use crate::common::{fail, fixtures, induction, succeed};
use serde_json::{Value, json};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Serves one repository, `tiny/qwen2`, whose only revision is `step7`; notes what was asked.
struct Hub {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    fn new(folder: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (folder, notes) = (folder.clone(), Arc::clone(&notes));
                std::thread::spawn(move || answer(&stream, &folder, &notes));
            }
        });
        Self { address, asked }
    }

    fn asked(&self, what: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|line| line.contains(what)).count()
    }
}

fn answer(mut stream: &TcpStream, folder: &std::path::Path, asked: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request).unwrap();
    let (mut line, mut from, mut to) = (String::new(), 0, usize::MAX);
    while reader.read_line(&mut line).unwrap() > 2 {
        if let Some(range) = line.to_lowercase().strip_prefix("range: bytes=") {
            let (first, last) = range.trim().split_once('-').unwrap();
            from = first.parse().unwrap();
            to = last.parse().map_or(usize::MAX, |last: usize| last + 1);
        }
        line.clear();
    }
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap_or("/"));
    let path = path.split('?').next().unwrap();
    asked.lock().unwrap().push(format!("{method} {path}"));
    let found: Option<Vec<u8>> = if path == "/api/models/tiny/qwen2/revision/step7" {
        let names = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.file_name());
        let names = names.chain(["pytorch_model.bin".into()]);
        let siblings: Vec<Value> =
            names.map(|name| json!({"rfilename": name.to_str().unwrap()})).collect();
        Some(json!({"id": "tiny/qwen2", "sha": COMMIT, "siblings": siblings}).to_string().into())
    } else {
        let file = path.strip_prefix(&format!("/tiny/qwen2/resolve/{COMMIT}/"));
        file.and_then(|file| fs::read(folder.join(file)).ok())
    };
    let Some(body) = found else {
        write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .unwrap();
        return;
    };
    let heavy = path.ends_with("-00002-of-00002.safetensors");
    let mut asked = asked.lock().unwrap();
    let mut once = |what: &str| {
        let first = !asked.contains(&what.to_string());
        asked.extend(first.then(|| what.to_string()));
        first
    };
    // A hub that goes on with a download from its beginning, once.
    if heavy && from > 0 && once("from its beginning") {
        from = 0;
    }
    // Any tag will do that tells files apart: their length is one for these.
    let (length, to) = (body.len(), to.min(body.len()));
    write!(
        stream,
        "HTTP/1.1 {}\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{length}\r\nETag: \"{length:040x}\"\r\nX-Repo-Commit: {COMMIT}\r\nConnection: close\r\n\r\n",
        if to - from < length { "206 Partial Content" } else { "200 OK" },
        to - from,
        to - 1,
    )
    .unwrap();
    // A connection that breaks once, in the middle of the second part of the weights.
    let end = if heavy && to - from > 1 && once("broken") { length / 2 } else { to };
    stream.write_all(&body[from..end]).unwrap();
}

#[test]
fn a_model_of_the_hub_is_brought_once_and_scanned() {
    let folder = tempfile::tempdir().unwrap();
    let (home, ids) = (folder.path().join("home"), folder.path().join("ids.json"));
    let qwen2 = fixtures().join("oracle/pretrained/qwen2");
    let hub = Hub::new(qwen2.clone());
    fs::write(&ids, "[1, 7, 9, 7, 9, 3]").unwrap();
    let scan = |model: &str| {
        let mut command = induction();
        command.env("HF_HOME", &home).env("HF_ENDPOINT", &hub.address).env_remove("HF_HUB_CACHE");
        command.args(["--json", "scan", model]);
        command
    };
    let parsed = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    let here = parsed(succeed(scan(qwen2.to_str().unwrap()).arg("--tokens").arg(&ids)));
    let broken = fail(&mut scan("hf:tiny/qwen2@step7"), 2);
    assert!(broken.contains("hf:tiny/qwen2@step7: ") && broken.lines().count() < 8, "{broken}");
    let longer = fail(&mut scan("hf:tiny/qwen2@step7"), 2);
    assert!(longer.contains(" bytes came of ") && longer.contains("try again"), "{longer}");
    let there = parsed(succeed(scan("hf:tiny/qwen2@step7").arg("--tokens").arg(&ids)));
    assert_eq!(here["nll"], there["nll"]);

    // The hub's own layout, and nothing that is not read.
    let cached = home.join("hub/models--tiny--qwen2/snapshots").join(COMMIT);
    let mut files: Vec<String> = fs::read_dir(&cached)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    assert_eq!(files, ["config.json", shards[0], shards[1], "model.safetensors.index.json"]);
    assert_eq!(hub.asked("pytorch_model.bin") + hub.asked("expected.safetensors"), 0);
    let fetched = hub.asked("GET /tiny/qwen2/resolve");
    assert_eq!(
        parsed(succeed(&mut scan("hf:tiny/qwen2@step7")))["model"]["name"],
        "tiny/qwen2@step7"
    );
    assert_eq!(hub.asked("GET /tiny/qwen2/resolve"), fetched, "what is there is not fetched again");

    let asked = hub.asked("");
    let offline =
        succeed(scan("hf:tiny/qwen2@step7").env("HF_HUB_OFFLINE", "1").arg("--tokens").arg(&ids));
    assert_eq!(parsed(offline)["nll"], here["nll"]);
    let never = fail(scan("hf:tiny/llama").env("HF_HUB_OFFLINE", "1"), 2);
    assert!(never.contains("hf:tiny/llama") && never.contains("never downloaded"), "{never}");
    assert_eq!(hub.asked(""), asked, "offline asks nobody");

    let absent = fail(&mut scan("hf:tiny/qwen2/a.gguf@step7"), 2);
    assert!(absent.contains("there is no a.gguf on the hub"), "{absent}");
    let absent = fail(&mut scan("hf:tiny/llama"), 2);
    assert!(absent.contains("hf:tiny/llama: ") && absent.contains("not found"), "{absent}");
    let silent = fail(scan("hf:tiny/qwen2@step7").env("HF_ENDPOINT", "http://127.0.0.1:9"), 2);
    assert!(silent.contains("HF_HUB_OFFLINE=1") && silent.lines().count() == 1, "{silent}");
}
