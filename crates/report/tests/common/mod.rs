#![allow(dead_code, unreachable_pub)] // Shared by test binaries, each of which uses a part.
//! Fabricated run folders: sigmoid curves with every feature the claims look at under control.

mod small;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, tensor::TensorView};

#[allow(unused_imports)]
pub use small::{SMALL, small};

pub const RUN_TOKENS: u64 = 10_000_000;
pub const SNAPSHOTS: u64 = 100;
pub const STEP_TOKENS: u64 = 10_000;
pub const EXAMPLES: u64 = 16;

#[derive(Debug, Clone)]
pub struct Fabricated {
    pub folder: String,
    pub n_layers: usize,
    pub smeared: bool,
    pub d_mlp: usize,
    pub seed: u64,
    pub source: String,
    pub warmup_steps: u64,
    /// ICL amounts long before and long after the change.
    pub before: f64,
    pub after: f64,
    /// Drift of the amount, before the change and over the rest of the run.
    pub drift: f64,
    /// Middle and width of the change, in tokens.
    pub middle: f64,
    /// How long the first amount takes to form, in tokens; 0: it is there from the start.
    pub rise: f64,
    pub width: f64,
    /// A straight ramp over twice the width instead of a sigmoid.
    pub ramp: bool,
    /// Prefix matching of the last layer's head 1 at the end, and when it is half-way, in tokens.
    pub prefix_matching: f64,
    pub head_middle: f64,
    pub stderr: f64,
    /// Noise of each example's score between snapshots.
    pub change_noise: f64,
    /// How far examples differ from each other in every score and loss, in nats.
    pub spread: f64,
    /// Depth of the loss's bump in the middle of the change, in nats.
    pub bump: f64,
    /// Where the bump is, and where the loss leaves the 1-layer curve, in tokens; in the middle of the change unless told.
    pub bump_at: Option<f64>,
    pub leaves_at: Option<f64>,
    /// By how many degrees the random tokens' losses turn in the middle of the change.
    pub turn: f64,
    /// Copying score and OV eigenvalue ratio of heads with prefix matching; others have the negative.
    pub copying: f64,
    /// Layer of the heads with prefix matching; the last unless told.
    pub head_layer: Option<usize>,
    pub train_tokens: u64,
    /// How far all losses lie below 2 layers', in nats.
    pub ahead: f64,
    /// What is added to the loss's slope before the change and taken from it after, in hundredths of a nat an e-fold.
    pub slopes: [f64; 2],
    /// Kind of the model's clamp.
    pub clamp: Option<&'static str>,
    /// Whether heads were removed. What follows is what that shows.
    pub ablated: bool,
    /// Change of the ICL score at the end without a head that matches prefixes, and without another.
    pub effects: [f64; 2],
    /// Rise of each random token's loss without these.
    pub undoing: [f64; 2],
    /// Share of the ICL amount that is lost without all induction heads, and without a control set of the same layers.
    pub sets: [f64; 2],
    /// Share of the lost loss that the previous-token pattern, one matched token and two win back.
    pub recovered: [f64; 3],
    /// Cost of cutting the keys' path, and of every other, as a share of removing the induction head.
    pub paths: [f64; 2],
    /// Share of the attention on right digits of a head that matches prefixes, of all and of that on digits; none: no text
    /// was explored.
    pub pattern: Option<[f64; 2]>,
}

pub fn two() -> Fabricated {
    Fabricated {
        folder: "b-2L".to_string(),
        n_layers: 2,
        smeared: false,
        d_mlp: 0,
        seed: 0,
        source: "corpus".to_string(),
        warmup_steps: 50,
        before: 0.08,
        after: 0.42,
        drift: 0.0,
        middle: 3e6,
        rise: 2e5,
        width: 2e5,
        ramp: false,
        prefix_matching: 0.85,
        head_middle: 3e6,
        stderr: 0.004,
        change_noise: 0.001,
        spread: 0.01,
        bump: 0.05,
        bump_at: None,
        leaves_at: None,
        turn: 90.0,
        copying: 0.6,
        head_layer: None,
        train_tokens: RUN_TOKENS,
        ahead: 0.0,
        slopes: [0.0, 0.0],
        clamp: None,
        ablated: true,
        effects: [0.1, -0.02],
        undoing: [0.5, -0.1],
        sets: [0.8, 0.05],
        recovered: [0.99, 0.65, 0.75],
        paths: [0.9, 0.1],
        pattern: Some([0.65, 0.8]),
    }
}

/// Given a previous-token head, which brings the change earlier.
pub fn two_given() -> Fabricated {
    let folder = "e-2L-given".to_string();
    Fabricated { folder, clamp: Some("previous-token"), middle: 1.5e6, head_middle: 1.5e6, ..two() }
}

/// Forbidden to attend to what followed a copy.
pub fn two_without() -> Fabricated {
    let folder = "f-2L-without".to_string();
    Fabricated { folder, clamp: Some("forbid-induction"), after: 0.1, prefix_matching: 0.03, bump: 0.0, ..two() }
}

pub fn one() -> Fabricated {
    Fabricated {
        folder: "a-1L".to_string(),
        n_layers: 1,
        after: 0.1,
        prefix_matching: 0.06,
        bump: 0.0,
        turn: 5.0,
        ..two()
    }
}

pub fn one_smeared() -> Fabricated {
    Fabricated {
        folder: "c-1L-smeared".to_string(),
        n_layers: 1,
        smeared: true,
        after: 0.39,
        middle: 2.6e6,
        prefix_matching: 0.8,
        head_middle: 2.6e6,
        ..two()
    }
}

pub fn two_smeared() -> Fabricated {
    Fabricated { folder: "d-2L-smeared".to_string(), smeared: true, middle: 1.8e6, head_middle: 1.8e6, ..two() }
}

/// The whole experiment of the first scale.
pub fn all() -> Vec<Fabricated> {
    vec![one(), two(), one_smeared(), two_smeared(), two_given(), two_without()]
}

/// A deeper attention-only model: it gains a little at every index, and learns more slowly before the change and faster
/// after it the deeper it is.
pub fn deep(n_layers: usize) -> Fabricated {
    let further = n_layers as f64 - 2.0;
    Fabricated { folder: format!("g-{n_layers}L"), n_layers, ahead: 0.1 * further, slopes: [further, further], ..two() }
}

/// The families: deeper models, models with MLPs, and another text; with `all`, every claim is reproduced.
pub fn families() -> Vec<Fabricated> {
    let mlp = |n_layers: usize| Fabricated {
        folder: format!("h-{n_layers}L-mlp"),
        d_mlp: 512,
        head_layer: Some(n_layers - 2),
        n_layers,
        ..two()
    };
    let elsewhere =
        |run: Fabricated| Fabricated { folder: format!("i-{}", run.folder), source: "elsewhere".into(), ..run };
    let mut runs: Vec<Fabricated> = (3..=5).map(deep).collect();
    runs.extend([mlp(5), mlp(6), elsewhere(one()), elsewhere(two())]);
    runs
}

pub fn write_all(dir: &Path, runs: &[Fabricated]) {
    for run in runs {
        write(dir, run);
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

pub fn write(dir: &Path, run: &Fabricated) -> PathBuf {
    let folder = dir.join("runs").join(&run.folder);
    let measurements = folder.join("measurements");
    fs::create_dir_all(&measurements).expect("a fresh folder");
    let Fabricated { n_layers, d_mlp, smeared, seed, source, warmup_steps, train_tokens, .. } = run;
    let spec = format!(
        "name = \"{n_layers}L\"\nseed = {seed}\n\n[data]\nsource = \"{source}\"\n\n[model]\nn_layers = {n_layers}\nd_model = 128\nn_heads = 4\nd_head = 32\nd_mlp = {d_mlp}\nn_ctx = 512\nd_vocab = 4096\nnormalization = \"LN\"\nsmeared_keys = {smeared}\npos_gain_init = [1.0, 0.1]\n\n[train]\ntokens = {train_tokens}\nbatch = 20\nlr = 0.002\nweight_decay = 0.01\nwarmup_steps = {warmup_steps}\n\n[snapshots]\nevery = 10\n\n[evaluation]\nexamples = 500\nicl_early = 50\nicl_late = 500\nicl_half_width = 5\nhead_examples = 100\n"
    );
    let clamp = run.clamp.map_or(String::new(), |kind| match kind {
        "previous-token" => format!("\n[model.clamp]\nkind = \"{kind}\"\nlayer = 0\nhead = 0\n"),
        _ => format!("\n[model.clamp]\nkind = \"{kind}\"\n"),
    });
    let spec = spec + &clamp;
    fs::write(folder.join("spec.toml"), spec).expect("a fresh folder");

    let mut metrics = String::new();
    for step in 1..=RUN_TOKENS / STEP_TOKENS {
        let tokens = step * STEP_TOKENS;
        let loss = loss(run, tokens as f64) + 0.05 * noise(step);
        writeln!(metrics, "{{\"step\": {step}, \"tokens\": {tokens}, \"loss\": {loss}, \"lr\": 0.001, \"grad_norm\": 1.0, \"tokens_per_s\": 1000.0}}").expect("a String");
    }
    fs::write(folder.join("metrics.jsonl"), metrics).expect("a fresh folder");

    let (mut icl, mut losses, mut heads, mut random) = (String::new(), String::new(), String::new(), String::new());
    for k in 0..=SNAPSHOTS {
        let step = k * RUN_TOKENS / STEP_TOKENS / SNAPSHOTS;
        let tokens = step * STEP_TOKENS;
        let at = tokens as f64;
        let score = -amount(run, at) + run.stderr * 0.5 * noise(k + 7);
        let examples = if run.stderr == 0.0 { 1 } else { EXAMPLES };
        // Deviations that sum to zero, the same at every snapshot.
        let apart = |example: u64| run.spread * (example as f64 - (examples - 1) as f64 / 2.0);
        let by_example: Vec<f64> = (0..examples)
            .map(|example| score + apart(example) + run.change_noise * noise(31 * k + 7 * example))
            .collect();
        let slope = -amount(run, at) / 10f64.ln();
        let slopes: Vec<f64> = (0..examples).map(|example| slope + 0.1 * apart(example)).collect();
        writeln!(
            icl,
            "{{\"step\": {step}, \"tokens\": {tokens}, \"icl_score\": {score}, \"stderr\": {}, \"by_example\": {by_example:?}, \"late_slope_by_example\": {slopes:?}}}",
            run.stderr
        )
        .expect("a String");
        // Two groups of tokens: their losses fall one way before the change and another after it.
        let (before, after) = (at.min(run.middle) / 1e6, (at - run.middle).max(0.0) / 1e6);
        let (sin, cos) = run.turn.to_radians().sin_cos();
        let place = [before + cos * after, sin * after];
        let tokens_losses: Vec<f64> = (0..examples).map(|e| 5.0 - place[usize::from(e % 2 == 1)] + apart(e)).collect();
        writeln!(random, "{{\"step\": {step}, \"tokens\": {tokens}, \"loss\": 3.0, \"losses\": {tokens_losses:?}}}")
            .expect("a String");
        let by_index: Vec<f64> = (0..512)
            .map(|i| loss(run, at) + 0.6 / (1.0 + f64::from(i)).sqrt() - amount(run, at) * f64::from(i).ln_1p() / 6.2)
            .collect();
        let mean = by_index.iter().sum::<f64>() / 512.0;
        let list: Vec<String> = by_index.iter().map(|loss| format!("{loss:.5}")).collect();
        writeln!(
            losses,
            "{{\"step\": {step}, \"tokens\": {tokens}, \"loss\": {mean}, \"loss_by_index\": [{}], \"by_example\": {:?}}}",
            list.join(", "),
            (0..examples).map(|example| mean + apart(example)).collect::<Vec<_>>()
        )
        .expect("a String");
        for layer in 0..run.n_layers {
            for head in 0..4u32 {
                let peak = match head {
                    1 => run.prefix_matching,
                    2 => run.prefix_matching * 0.8,
                    _ => 0.06,
                };
                let matches = layer == run.head_layer.unwrap_or(run.n_layers - 1);
                let rise = if matches {
                    (peak - 0.02).max(0.0) * sigmoid((at - run.head_middle) / run.width)
                } else {
                    0.01 * f64::from(head)
                };
                let pm = 0.02 + rise + 0.004 * noise(k * 16 + layer as u64 * 4 + u64::from(head));
                let copying = if pm > 0.1 { run.copying } else { -run.copying } + 0.01 * pm;
                let previous = if (layer, head) == (0, 0) { 0.7 } else { 0.1 };
                let trace = if layer == 0 { "null".to_string() } else { (500.0 * pm).to_string() };
                writeln!(heads, "{{\"step\": {step}, \"tokens\": {tokens}, \"layer\": {layer}, \"head\": {head}, \"prefix_matching\": {pm}, \"prefix_matching_stderr\": 0.003, \"copying\": {copying}, \"previous_token\": {previous}, \"ov_copying\": {copying}, \"qk_trace\": {trace}}}").expect("a String");
            }
        }
    }
    if run.ablated {
        write_ablations(&measurements, run);
    }
    fs::write(measurements.join("icl.jsonl"), icl).expect("a fresh folder");
    fs::write(measurements.join("loss_by_index.jsonl"), losses).expect("a fresh folder");
    fs::write(measurements.join("heads.jsonl"), heads).expect("a fresh folder");
    fs::write(measurements.join("random_tokens.jsonl"), random).expect("a fresh folder");
    let summary = r#"{"ceiling": {"icl_score": -0.5, "stderr": 0.01}}"#;
    fs::write(measurements.join("summary.json"), summary).expect("a fresh folder");
    let meta = r#"{"measures": "1", "spec_hash": "00", "evaluation": {"examples": 500, "icl_early": 50, "icl_late": 500, "icl_half_width": 5, "head_examples": 100}}"#;
    fs::write(measurements.join("meta.json"), meta).expect("a fresh folder");
    if let Some(pattern) = run.pattern {
        write_explored(run, pattern, &measurements);
    }
    folder
}

/// Tokens that would like to be more than text.
pub const TEXT: [&str; 10] =
    ["The", " cat", " <b>", "</script>", "\u{1b}[31m", "\n", "\u{202e}abc", " cat", " \"'&", "."];

/// A text followed at every snapshot and mapped at every tenth, and one prompt.
fn write_explored(run: &Fabricated, [share, among]: [f64; 2], measurements: &Path) {
    let write = |name: &str, text: String| fs::write(measurements.join(name), text).expect("a fresh folder");
    fs::create_dir_all(measurements.join("maps")).expect("a fresh folder");
    let ids: Vec<usize> = (0..TEXT.len()).collect();
    let stored = serde_json::json!({"name": "a text of <i>mine</i>", "ids": ids, "tokens": TEXT});
    write("text.json", stored.to_string());
    write("explore.json", "{}".to_string());
    let mut lines = String::new();
    for k in 0..=SNAPSHOTS {
        let step = k * RUN_TOKENS / STEP_TOKENS / SNAPSHOTS;
        let losses: Vec<f64> = (0..TEXT.len()).map(|t| 8.0 - 0.05 * k as f64 * (t as f64 / 9.0)).collect();
        let row = serde_json::json!({"step": step, "tokens": step * STEP_TOKENS, "losses": losses});
        writeln!(lines, "{row}").expect("a String");
        if k % 10 == 0 {
            write_maps(&measurements.join(format!("maps/step-{step:08}.safetensors")), "", run.n_layers, TEXT.len());
        }
    }
    write("text.jsonl", lines);
    let query = serde_json::json!({"at": 5, "targets": [2], "among": [2, 3]});
    let prompt = serde_json::json!([{"behaviour": "pattern matching", "ids": [0, 1, 2, 3, 4, 5, 6, 7], "tokens": ["<|bos|>", "may", " frog:", "0", "blue", " pear:", "3", "\n"], "queries": [query]}]);
    write("prompts.json", prompt.to_string());
    write_maps(&measurements.join("maps/prompts.safetensors"), ".pattern_matching", run.n_layers, 7);
    let mut lines = String::new();
    for (layer, head) in (0..run.n_layers).flat_map(|layer| (0..4).map(move |head| (layer, head))) {
        let best = layer + 1 == run.n_layers && head == 1;
        let (share, among) = if best { (share, among) } else { (0.02, 0.25) };
        let row = serde_json::json!({
            "step": 1000, "tokens": RUN_TOKENS, "behaviour": "pattern matching", "layer": layer, "head": head,
            "share": share, "share_stderr": 0.01, "chance": 0.1, "share_among": among, "share_among_stderr": 0.01,
            "chance_among": 0.25, "attribution": 0.5, "attribution_total": 0.7,
        });
        writeln!(lines, "{row}").expect("a String");
    }
    write("prompts.jsonl", lines);
}

/// Even attention, and attribution that alternates.
fn write_maps(path: &Path, suffix: &str, n_layers: usize, positions: usize) {
    let (mut attention, mut attribution) = (Vec::new(), Vec::new());
    for _ in 0..n_layers * 4 {
        for query in 0..positions {
            for key in 0..positions {
                let seen = key <= query;
                attention.push(if seen { (255.0 / (query + 1) as f64).round() as u8 } else { 0 });
                attribution.push(if seen { (if key % 2 == 0 { 100i8 } else { -50 }) as u8 } else { 0 });
            }
        }
    }
    let unit: Vec<u8> = (0..n_layers * 4).flat_map(|_| 0.01f32.to_le_bytes()).collect();
    let maps = vec![n_layers, 4, positions, positions];
    let arrays = [
        (format!("attention{suffix}"), Dtype::U8, maps.clone(), attention),
        (format!("attribution{suffix}"), Dtype::I8, maps, attribution),
        (format!("attribution_unit{suffix}"), Dtype::F32, vec![n_layers, 4], unit),
    ];
    let views = arrays.iter().map(|(name, dtype, shape, bytes)| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).expect("as many bytes as the shape asks for"))
    });
    fs::write(path, safetensors::serialize(views, None).expect("unique names")).expect("a fresh folder");
}

/// Examples that heads are removed on: the first half.
fn ablated_examples(run: &Fabricated) -> u64 {
    if run.stderr == 0.0 { 1 } else { EXAMPLES / 2 }
}

fn write_ablations(measurements: &Path, run: &Fabricated) {
    let n = ablated_examples(run);
    let around = |value: f64| -> Vec<f64> { (0..n).map(|e| value + 0.001 * noise(e + 3)).collect() };
    let matches = |layer: usize, head: u32| {
        layer == run.head_layer.unwrap_or(run.n_layers - 1) && (head == 1 || head == 2) && run.prefix_matching > 0.3
    };
    let mut sweep = String::new();
    for k in (0..=SNAPSHOTS).step_by(10) {
        let step = k * RUN_TOKENS / STEP_TOKENS / SNAPSHOTS;
        let tokens = step * STEP_TOKENS;
        let formed = sigmoid((tokens as f64 - run.middle) / run.width);
        for layer in 0..run.n_layers {
            for head in 0..4 {
                let which = usize::from(!matches(layer, head));
                let (change, random) = (run.effects[which] * formed, run.undoing[which] * formed);
                for downstream in ["full", "pattern-preserving"] {
                    writeln!(sweep, "{{\"step\": {step}, \"tokens\": {tokens}, \"layer\": {layer}, \"head\": {head}, \"downstream\": \"{downstream}\", \"icl_change\": {change}, \"icl_change_stderr\": 0.001, \"loss_change\": 0.01, \"icl_change_by_example\": {:?}, \"random_token_changes\": {:?}}}", around(change), around(random)).expect("a String");
                }
            }
        }
    }
    fs::write(measurements.join("ablations.jsonl"), sweep).expect("a fresh folder");

    let clean = -amount(run, RUN_TOKENS as f64);
    let mut table = String::new();
    let mut add = |name: &str, ablation: &str, loss: f64, icl: f64| {
        writeln!(table, "{{\"step\": 1000, \"tokens\": {RUN_TOKENS}, \"name\": \"{name}\", \"ablation\": {ablation}, \"loss\": {loss}, \"icl_score\": {icl}, \"loss_by_example\": {:?}, \"icl_by_example\": {:?}}}", around(loss), around(icl)).expect("a String");
    };
    let (last, removed) = (run.n_layers - 1, clean + 0.2);
    let head = |layer: usize, head: usize| format!("{{\"layer\": {layer}, \"head\": {head}}}");
    let set = |heads: &[String], downstream: &str| {
        format!(
            "{{\"kind\": \"heads\", \"heads\": [{}], \"fill\": \"zero\", \"downstream\": \"{downstream}\"}}",
            heads.join(", ")
        )
    };
    add("clean", "null", 2.0, clean);
    for downstream in ["full", "pattern-preserving"] {
        let lost = |share: f64| clean - share * clean;
        if run.prefix_matching > 0.3 {
            add("induction-heads", &set(&[head(last, 1), head(last, 2)], downstream), 2.2, lost(run.sets[0]));
            add("control-matched", &set(&[head(last, 0), head(last, 3)], downstream), 2.1, lost(run.sets[1]));
        }
        add("previous-token-heads", &set(&[head(0, 0)], downstream), 2.2, lost(0.5));
    }
    for layer in 0..run.n_layers {
        for h in 0..4 {
            add("remove", &set(&[head(layer, h)], "full"), 2.4, removed);
        }
    }
    let substitute = |layer, h, pattern: &str| {
        format!("{{\"kind\": \"substitute\", \"head\": {}, \"pattern\": \"{pattern}\"}}", head(layer, h))
    };
    let won = |share: f64| 2.4 - 0.4 * share;
    add("substitute", &substitute(0, 0, "previous-token"), won(run.recovered[0]), clean);
    add("substitute", &substitute(last, 1, "induction-one-token"), won(run.recovered[1]), clean);
    add("substitute", &substitute(last, 1, "induction-two-tokens"), won(run.recovered[2]), clean);
    if last > 0 {
        for from in 0..4 {
            for into in ["queries", "keys", "values"] {
                let share = run.paths[usize::from((from, into) != (0, "keys"))];
                let path = format!(
                    "{{\"kind\": \"path\", \"from\": {}, \"to\": {}, \"into\": \"{into}\"}}",
                    head(0, from),
                    head(last, 1)
                );
                add("path", &path, 2.1, clean + 0.2 * share);
            }
        }
    }
    fs::write(measurements.join("knockouts.jsonl"), table).expect("a fresh folder");
}

fn amount(run: &Fabricated, at: f64) -> f64 {
    let formed = if run.rise > 0.0 { 1.0 - (-at / run.rise).exp() } else { 1.0 };
    let x = (at - run.middle) / run.width;
    let change = (run.after - run.before) * if run.ramp { (0.5 + 0.5 * x).clamp(0.0, 1.0) } else { sigmoid(x) };
    (run.before + change) * formed + run.drift * at / RUN_TOKENS as f64
}

fn loss(run: &Fabricated, at: f64) -> f64 {
    let bump = run.bump * (-((at - run.bump_at.unwrap_or(run.middle)) / run.width).powi(2)).exp();
    let left_at = run.leaves_at.unwrap_or(run.middle);
    // Much more than ICL alone takes off the loss, where a test moves it elsewhere.
    let size = if run.leaves_at.is_some() { 1.0 } else { 0.1 };
    let left = if run.n_layers > 1 { size * sigmoid((at - left_at) / run.width) } else { 0.0 };
    let folds = (at.max(1.0) / run.middle).ln();
    let slope = 0.01 * if folds < 0.0 { run.slopes[0] * folds } else { -run.slopes[1] * folds };
    5.2 - 0.35 * (1.0 + at / 5e4).ln() + bump - left - run.ahead + slope
}

/// In -1..1, the same every time.
fn noise(k: u64) -> f64 {
    let mut x = k.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 31;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (x >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// The scan of a model of 20 layers of 4 heads that does everything that is claimed of real models; its foreign text would
/// like to be more than text.
pub fn scan() -> serde_json::Value {
    let scores = |layer: usize, head: usize| match (layer, head) {
        (10, 1) => (0.9, 0.8),
        (11, 2) => (0.6, 0.5),
        (15, 3) => (0.5, -0.95),
        _ => (0.02, -0.85),
    };
    let all = || (0..20).flat_map(|layer| (0..4).map(move |head| (layer, head)));
    let heads: Vec<_> = all()
        .map(|(layer, head)| {
            let (prefix_matching, copying) = scores(layer, head);
            let role = match (prefix_matching > 0.3, copying > 0.0) {
                (true, true) => "induction",
                (true, false) => "anti-copying-prefix",
                _ => "other",
            };
            serde_json::json!({
                "layer": layer, "head": head, "role": role, "prefix_matching": prefix_matching,
                "prefix_matching_stderr": 0.01, "copying": copying, "copying_stderr": 0.01, "previous_token": 0.1,
                "previous_token_stderr": null, "some_other_score": 0.5,
            })
        })
        .collect();
    let behaviours: Vec<_> = ["literal copying", "translation", "pattern matching"]
        .iter()
        .flat_map(|behaviour| all().map(move |place| (behaviour, place)))
        .map(|(behaviour, (layer, head))| {
            let (share, among) = if (layer, head) == (10, 1) { (0.6, 0.9) } else { (0.02, 0.25) };
            serde_json::json!({
                "behaviour": behaviour, "layer": layer, "head": head, "share": share, "share_stderr": 0.02,
                "chance": 0.05, "share_among": among, "share_among_stderr": 0.03, "chance_among": 0.25,
                "attribution": 0.5, "attribution_total": 0.7,
            })
        })
        .collect();
    let n = TEXT.len();
    let attention: Vec<Vec<u8>> = (0..n).map(|i| vec![(255 / (i + 1)) as u8; i + 1]).collect();
    let shown = serde_json::json!({
        "behaviour": "literal copying", "tokens": TEXT,
        "heads": [
            {"layer": 11, "head": 2, "attention": attention},
            {"layer": 10, "head": 1, "attention": attention},
            {"layer": 15, "head": 3, "attention": attention},
        ],
    });
    let by_position: Vec<f64> = (0..100).map(|k| if k <= 50 { 11.0 } else { 1.0 + 1.0 / f64::from(k) }).collect();
    let set = |kind: &str, heads: &[[usize; 2]], second: f64, icl: Option<f64>| {
        serde_json::json!({
            "kind": kind, "heads": heads, "first": 11.2, "second": second, "second_change": second - 1.0,
            "second_change_stderr": 0.1, "icl": icl,
        })
    };
    serde_json::json!({
        "version": 1,
        "model": {
            "name": "<b>tiny</b> \u{1b}[1m\u{202e}.gguf", "family": "llama", "encoding": "</script>", "n_layers": 20,
            "n_heads": 4, "n_key_value_heads": 2, "d_model": 64, "d_head": 16, "d_mlp": 128, "d_vocab": 60000,
            "n_ctx": 1024, "n_params": 5_000_000,
        },
        "engine": "cpu",
        "heads": heads,
        "repeated": {
            "examples": 10, "block": 50, "first": 11.0, "first_stderr": 0.1, "second": 1.0, "second_stderr": 0.05,
            "by_position": by_position,
        },
        "icl": {
            "text": "<i>a text</i>", "examples": 2, "length": 512, "early": 50, "late": 500, "half_width": 5,
            "score": -0.4, "stderr": 0.05, "by_example": [-0.35, -0.45], "loss": 3.0,
            "by_index": (0..512).map(|i| 5.0 - 0.3 * f64::from(i).ln_1p()).collect::<Vec<f64>>(),
        },
        "ablation": {"sets": [
            set("induction", &[[10, 1], [11, 2], [15, 3]], 9.0, Some(-0.1)),
            set("matched", &[[10, 0], [11, 0], [15, 0]], 1.2, Some(-0.38)),
            set("matched", &[[10, 3], [11, 3], [15, 1]], 1.5, None),
            set("any", &[[0, 0], [1, 0], [2, 0]], 2.0, None),
        ]},
        "behaviours": behaviours,
        "shown": [shown],
    })
}

/// Writes a scan to `dir/models/name`.
pub fn write_scan(dir: &Path, name: &str, scan: &serde_json::Value) -> PathBuf {
    let folder = dir.join("models").join(name);
    fs::create_dir_all(&folder).expect("a fresh folder");
    fs::write(folder.join("scan.json"), format!("{scan:#}")).expect("a fresh folder");
    folder
}

/// Replaces one line of a table, counted from 1.
pub fn damage(path: &Path, line: usize, text: &[u8]) {
    let bytes = fs::read(path).expect("it was written");
    let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    lines[line - 1] = text;
    fs::write(path, lines.join(&b'\n')).expect("it was written");
}
