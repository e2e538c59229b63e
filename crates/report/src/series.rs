//! What is measured on several runs together, as tables.

use serde::Serialize;

use crate::experiment::{Experiment, Trained};

/// A line of `series/pca.jsonl`: a snapshot's place in the plane of the joint PCA (paper.md, 2).
#[derive(Serialize)]
struct PcaRow<'a> {
    run: &'a str,
    seed: u64,
    tokens: u64,
    pc1: f64,
    pc2: f64,
    /// Whether the snapshot lies in the run's own phase-change window.
    in_window: bool,
    /// Share of the variance of all snapshots along each axis.
    explained: &'a [f64],
}

/// The lines of `series/pca.jsonl`; none if the runs have no plane in common.
pub(crate) fn pca_rows(experiments: &[Experiment<'_>]) -> String {
    let mut text = String::new();
    for experiment in experiments {
        let explained = experiment.explained().unwrap_or_default();
        for model in experiment.trained() {
            let Some((tokens, path)) = model.path() else { continue };
            for (tokens, place) in tokens.into_iter().zip(path.rows()) {
                let row = PcaRow {
                    run: &model.run.folder,
                    seed: model.run.spec.seed,
                    tokens,
                    pc1: place[0],
                    pc2: place[1],
                    in_window: model
                        .window()
                        .is_ok_and(|w| (w.start_tokens..=w.end_tokens).contains(&tokens)),
                    explained,
                };
                text += &serde_json::to_string(&row).expect("plain structs serialize");
                text.push('\n');
            }
        }
    }
    text
}

/// Whether a model went through the change within its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Change {
    /// A window, and an induction head.
    Came,
    /// An induction head without a window.
    HeadOnly,
    /// A window without an induction head.
    WindowOnly,
    /// Neither.
    Not,
}

impl Change {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Came => "came",
            Self::HeadOnly => "a head, but no window",
            Self::WindowOnly => "a window, but no induction head",
            Self::Not => "not within these tokens",
        }
    }
}

/// A line of `series/models.jsonl`: what became of a model.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ModelRow {
    pub(crate) run: String,
    pub(crate) model: String,
    pub(crate) text: String,
    pub(crate) seed: u64,
    /// Training tokens at the last measured snapshot.
    pub(crate) tokens: u64,
    /// By the paper's definition, on other tokens late than early, in nats.
    pub(crate) icl_score: f64,
    pub(crate) icl_stderr: f64,
    /// On the same tokens, in nats.
    pub(crate) same_token_score: f64,
    pub(crate) same_token_stderr: f64,
    /// Start and end of the phase-change window, in tokens.
    pub(crate) window: Option<[u64; 2]>,
    pub(crate) best_head: String,
    pub(crate) prefix_matching: f64,
    /// When the highest prefix matching was half of its end, in tokens; where there is an induction
    /// head.
    pub(crate) half_time: Option<f64>,
    pub(crate) change: Change,
}

/// Every model of every experiment: the leading one, its seeds, other texts.
pub(crate) fn models(experiments: &[Experiment<'_>]) -> Vec<ModelRow> {
    let row = |experiment: &Experiment<'_>, model: &Trained<'_>| {
        let (best, last) = (model.best_head(), model.last_icl());
        let window = model.window().ok().map(|window| [window.start_tokens, window.end_tokens]);
        let head = model.has_induction_head();
        ModelRow {
            run: model.run.label(),
            model: model.variant.label(),
            text: experiment.text.clone(),
            seed: model.run.spec.seed,
            tokens: model.run.measured_tokens(),
            icl_score: last.icl_score,
            icl_stderr: last.stderr.unwrap_or_default(),
            same_token_score: last.same_token_score,
            same_token_stderr: last.same_token_stderr.unwrap_or_default(),
            window,
            best_head: best.id().to_string(),
            prefix_matching: best.prefix_matching,
            half_time: model.max_half_time().filter(|_| head),
            change: match (window.is_some(), head) {
                (true, true) => Change::Came,
                (false, true) => Change::HeadOnly,
                (true, false) => Change::WindowOnly,
                (false, false) => Change::Not,
            },
        }
    };
    let every =
        experiments.iter().chain(experiments.iter().flat_map(|experiment| &experiment.elsewhere));
    every
        .flat_map(|experiment| experiment.everybody().map(move |model| row(experiment, model)))
        .collect()
}

/// The lines of `series/models.jsonl`.
pub(crate) fn model_rows(experiments: &[Experiment<'_>]) -> String {
    let rows = models(experiments);
    rows.iter()
        .map(|row| serde_json::to_string(row).expect("plain structs serialize") + "\n")
        .collect()
}
