#![allow(dead_code, unreachable_pub, unused_imports)] // Shared by test binaries, each of which uses a part.
//! Fabricated run folders: simple curves, with every number that a claim is judged on under
//! control.

mod scans;
mod small;
mod write;

use std::fs;
use std::path::Path;

pub use scans::{scan, shown, write_scan};
pub use small::{SMALL, small};
pub use write::{TEXT, write};

pub const RUN_TOKENS: u64 = 10_000_000;
pub const SNAPSHOTS: u64 = 40;
pub const STEP_TOKENS: u64 = 10_000;

/// A run, in what its tables say. What [`two`] has is what the paper reports of 2 layers.
#[derive(Debug, Clone)]
pub struct Fabricated {
    // What it is, and how it was trained and measured.
    pub folder: String,
    pub n_layers: usize,
    pub smeared: bool,
    pub d_mlp: usize,
    pub seed: u64,
    /// The path of its text; none: random blocks that repeat.
    pub text: Option<&'static str>,
    /// Kind of the model's clamp.
    pub clamp: Option<&'static str>,
    /// What was taken out of its text.
    pub control: Option<&'static str>,
    pub warmup_steps: u64,
    pub decay_share: f64,
    pub train_tokens: u64,
    pub passes: f64,
    /// Evaluation examples; of one there are no intervals, and nothing is drawn.
    pub examples: u64,
    /// How far examples differ from each other in every score and loss, in nats, at every snapshot
    /// alike.
    pub spread: f64,
    /// How far the change of one example's score differs from that of another, in nats; it cancels
    /// in the mean.
    pub change_noise: f64,

    // The change: of the same-token amount of ICL, and what comes with it.
    pub before: f64,
    pub after: f64,
    /// Middle and time constant of the change, in tokens; 10 to 90 % of it take 4.4 times the
    /// latter.
    pub middle: f64,
    pub width: f64,
    /// By how much the amount goes on to grow from its middle to the run's end.
    pub drift: f64,
    /// d loss / d ln index before and after it.
    pub late_slopes: [f64; 2],
    /// By how much the loss of foretold tokens and of the others falls, in nats.
    pub copies: [f64; 2],
    /// By how many degrees the random tokens' losses turn where the window begins.
    pub turn: f64,

    // The loss.
    /// Depth of its bump in the middle of the change, in nats.
    pub bump: f64,
    /// Where the bump is, and where the loss leaves the 1-layer curve, in tokens; in the middle of
    /// the change unless told.
    pub bump_at: Option<f64>,
    pub leaves_at: Option<f64>,
    /// How far all losses lie below 2 layers', in nats.
    pub ahead: f64,
    /// What is added to the loss's slope before the change and taken from it after, in hundredths
    /// of a nat an e-fold.
    pub slopes: [f64; 2],

    // Heads. Two of one layer match prefixes, the second somewhat less.
    /// That layer; the last unless told.
    pub head_layer: Option<usize>,
    /// Prefix matching of the better one at the end, and when it is half-way, in tokens.
    pub prefix_matching: f64,
    pub head_middle: f64,
    /// When head 0.0 becomes a previous-token head, and when the matching heads' keys come to read
    /// it.
    pub previous_middle: f64,
    pub composition_middle: f64,
    /// Copying score, OV eigenvalue ratio and sign of the QK trace of heads that match prefixes;
    /// others have the negative.
    pub copying: f64,
    /// Copying by cause in nats, as a multiple of prefix matching: of heads that match prefixes, and
    /// of others; none: it was not asked.
    pub by_cause: Option<[f64; 2]>,
    pub ov: f64,
    pub trace: f64,
    /// Of a head on the pattern prompts: share of all attention on right digits, of that on digits,
    /// and of that what would be there if it copied literally; none: no text was explored.
    pub pattern: Option<[f64; 3]>,

    // Ablations.
    pub ablated: bool,
    /// What a head that matches prefixes contributes to the amount at the end, and what another
    /// does, in nats.
    pub effects: [f64; 2],
    /// What the former is multiplied by at a snapshot between the change and the end.
    pub slump: f64,
    /// The former with heads replaced by their mean, and by their output in another example; others
    /// contribute 0.01.
    pub fills: [f64; 2],
    /// How far removing a head that matches prefixes, and another, moves losses along the change;
    /// none: there is no change.
    pub undoing: Option<[f64; 2]>,
    /// Share of the amount that is lost without all induction heads, and without a control set of
    /// the same layers.
    pub sets: [f64; 2],
    /// Share of the lost loss that the previous-token pattern, one matched token and two win back.
    pub recovered: [f64; 3],
    /// Cost of cutting the previous-token head out of the keys, and of every other cut, as a share
    /// of removing the induction head.
    pub paths: [f64; 2],
}

pub fn two() -> Fabricated {
    Fabricated {
        folder: "b-2L".to_string(),
        n_layers: 2,
        smeared: false,
        d_mlp: 0,
        seed: 0,
        text: Some("text.txt"),
        clamp: None,
        control: None,
        warmup_steps: 50,
        decay_share: 0.1,
        train_tokens: RUN_TOKENS,
        passes: 0.5,
        examples: 16,
        spread: 0.01,
        change_noise: 0.002,
        before: 0.04,
        after: 0.42,
        middle: 3e6,
        width: 2e5,
        drift: 0.0,
        late_slopes: [-0.01, -0.18],
        copies: [1.0, 0.1],
        turn: 90.0,
        bump: 0.05,
        bump_at: None,
        leaves_at: None,
        ahead: 0.0,
        slopes: [0.0, 0.0],
        head_layer: None,
        prefix_matching: 0.85,
        head_middle: 3e6,
        previous_middle: 1.5e6,
        composition_middle: 2.8e6,
        copying: 0.6,
        by_cause: Some([4.0, 1.0]),
        ov: 0.7,
        trace: 1.0,
        pattern: Some([0.65, 0.8, 0.3]),
        ablated: true,
        effects: [0.1, -0.005],
        slump: 1.0,
        fills: [0.1, 0.1],
        undoing: Some([-0.5, 0.1]),
        sets: [0.8, 0.05],
        recovered: [0.99, 0.65, 0.75],
        paths: [0.9, 0.1],
    }
}

pub fn one() -> Fabricated {
    Fabricated {
        folder: "a-1L".to_string(),
        n_layers: 1,
        after: 0.07,
        prefix_matching: 0.06,
        bump: 0.0,
        turn: 5.0,
        undoing: None,
        ..two()
    }
}

pub fn one_smeared() -> Fabricated {
    let (folder, middle) = ("c-1L-smeared".to_string(), 2.6e6);
    Fabricated {
        folder,
        n_layers: 1,
        smeared: true,
        after: 0.39,
        middle,
        head_middle: middle,
        ..two()
    }
}

pub fn two_smeared() -> Fabricated {
    Fabricated {
        folder: "d-2L-smeared".to_string(),
        smeared: true,
        middle: 1.8e6,
        head_middle: 1.8e6,
        ..two()
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
    Fabricated { folder, clamp: Some("forbid-induction"), ..unchanged() }
}

/// On text without order.
pub fn shuffled() -> Fabricated {
    Fabricated { folder: "k-2L-shuffled".to_string(), control: Some("shuffled"), ..unchanged() }
}

/// On text in which nothing repeats.
pub fn fragments() -> Fabricated {
    Fabricated { folder: "l-2L-fragments".to_string(), control: Some("fragments"), ..unchanged() }
}

/// 2 layers in which the change does not come.
pub fn unchanged() -> Fabricated {
    Fabricated { after: 0.05, prefix_matching: 0.03, bump: 0.0, undoing: None, ..two() }
}

/// A deeper attention-only model: it gains a little at every index, and learns more slowly before
/// the change and faster after it the deeper it is.
pub fn deep(n_layers: usize) -> Fabricated {
    let further = n_layers as f64 - 2.0;
    Fabricated {
        folder: format!("g-{n_layers}L"),
        n_layers,
        ahead: 0.1 * further,
        slopes: [further, further],
        ..two()
    }
}

/// A model with MLPs, whose induction heads lie in the second-to-last layer if it has 5 or 6.
pub fn mlp(n_layers: usize) -> Fabricated {
    let head_layer = Some(n_layers - if n_layers < 5 { 1 } else { 2 });
    Fabricated { folder: format!("h-{n_layers}L-mlp"), d_mlp: 512, head_layer, n_layers, ..two() }
}

/// The same model on another text.
pub fn elsewhere(run: Fabricated) -> Fabricated {
    Fabricated { folder: format!("i-{}", run.folder), text: Some("elsewhere.txt"), ..run }
}

/// The whole experiment of the first scale.
pub fn all() -> Vec<Fabricated> {
    vec![one(), two(), one_smeared(), two_smeared(), two_given(), two_without()]
}

/// The families: deeper models, models with MLPs, and another text.
pub fn families() -> Vec<Fabricated> {
    vec![deep(3), deep(4), deep(5), mlp(2), mlp(5), mlp(6), elsewhere(one()), elsewhere(two())]
}

/// The same runs with another seed.
pub fn seed(seed: u64, runs: Vec<Fabricated>) -> Vec<Fabricated> {
    runs.into_iter()
        .map(|run| Fabricated { folder: format!("{}-s{seed}", run.folder), seed, ..run })
        .collect()
}

/// Everything that is trained: three seeds of the small models, their controls, and the families.
pub fn everything() -> Vec<Fabricated> {
    let small = || [all(), vec![shuffled(), fragments()]].concat();
    [small(), seed(1, small()), seed(2, small()), families()].concat()
}

/// The same runs measured on one example: nothing is drawn.
pub fn exact(runs: Vec<Fabricated>) -> Vec<Fabricated> {
    runs.into_iter().map(|run| Fabricated { examples: 1, ..run }).collect()
}

pub fn write_all(dir: &Path, runs: &[Fabricated]) {
    for run in runs {
        write(dir, run);
    }
}

/// Replaces one line of a table, counted from 1.
pub fn damage(path: &Path, line: usize, text: &[u8]) {
    let bytes = fs::read(path).expect("it was written");
    let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    lines[line - 1] = text;
    fs::write(path, lines.join(&b'\n')).expect("it was written");
}
