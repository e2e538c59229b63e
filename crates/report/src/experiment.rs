//! Which runs belong together, and which variant of the model each is.
//!
//! A variant is known by content - layers, MLP, smeared keys, clamp, control, seed, data - never by
//! a run's name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use induction_metrics::{Pca, pca};
use induction_model::Clamp;
use induction_records::{
    BehaviourScores, Control, DataSpec, LossSpec, OptimizerKind, Synthetic, TimedClamp, TrainSpec,
    Without,
};
use ndarray::{Array2, ArrayView1, Axis};

use crate::Run;
use crate::text::visible;
pub(crate) use crate::trained::{COMPONENTS, Draw, HeadKind, Trained, Window};

/// How a variant's attention is clamped, in training and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Clamped {
    /// One head attends to the previous token.
    PreviousToken,
    /// No head attends to what followed an earlier copy of the current token.
    ForbidInduction,
    /// In another way, that no claim is about: its kind and place.
    Other(&'static str),
}

impl Clamped {
    fn of(clamps: &[Clamp]) -> Option<Self> {
        Some(match clamps {
            [] => return None,
            [Clamp::PreviousToken { .. }] => Self::PreviousToken,
            [Clamp::ForbidInduction] => Self::ForbidInduction,
            others => Self::Other(in_words(others)),
        })
    }
}

/// Clamps' kinds and places, as in "match 1.0 and off 1.2".
fn in_words(clamps: &[Clamp]) -> &'static str {
    let each = clamps.iter().map(|clamp| {
        let fields = serde_json::to_value(clamp).unwrap_or_default();
        let kind = fields["kind"].as_str().unwrap_or_default().to_string();
        match clamp.head() {
            Some((layer, head)) => format!("{kind} {layer}.{head}"),
            None => kind,
        }
    });
    kept(&each.collect::<Vec<_>>().join(" and "))
}

/// Words of a variant. Variants are copied and compared everywhere; the few words that a report has
/// of these may stay.
fn kept(words: &str) -> &'static str {
    Box::leak(visible(words).into_boxed_str())
}

/// What else a run's training did otherwise than the reproduction's; nothing if it did not.
fn options(train: &TrainSpec) -> Option<&'static str> {
    let mut said = Vec::new();
    match train.optimizer {
        OptimizerKind::AdamW => {}
        OptimizerKind::Muon => said.push("Muon".to_string()),
        OptimizerKind::Sgd => said.push("SGD".to_string()),
    }
    if let Some(LossSpec { without: Without::Induction }) = train.loss {
        said.push("no loss of what induction foretells".to_string());
    }
    for TimedClamp { clamp, from, until } in &train.clamps {
        let until = until.map_or_else(|| "the end".to_string(), |step| format!("step {step}"));
        said.push(format!("{} from step {from} to {until}", in_words(&[*clamp])));
    }
    (!said.is_empty()).then(|| kept(&said.join(", ")))
}

/// Depth and variant of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Variant {
    pub(crate) mlp: bool,
    pub(crate) n_layers: usize,
    pub(crate) smeared: bool,
    pub(crate) clamp: Option<Clamped>,
    pub(crate) control: Option<Control>,
    /// What else its training did otherwise, in words.
    pub(crate) options: Option<&'static str>,
}

const fn plain(n_layers: usize, smeared: bool, clamp: Option<Clamped>) -> Variant {
    Variant { mlp: false, n_layers, smeared, clamp, control: None, options: None }
}
pub(crate) const ONE: Variant = plain(1, false, None);
pub(crate) const TWO: Variant = plain(2, false, None);
pub(crate) const TWO_MLP: Variant = Variant { mlp: true, ..TWO };
pub(crate) const THREE: Variant = plain(3, false, None);
pub(crate) const ONE_SMEARED: Variant = plain(1, true, None);
pub(crate) const TWO_SMEARED: Variant = plain(2, true, None);
/// Given a previous-token head from the start.
pub(crate) const TWO_GIVEN: Variant = plain(2, false, Some(Clamped::PreviousToken));
/// Forbidden to attend to what followed an earlier copy.
pub(crate) const TWO_WITHOUT: Variant = plain(2, false, Some(Clamped::ForbidInduction));
/// On text without order.
pub(crate) const TWO_SHUFFLED: Variant = Variant { control: Some(Control::Shuffled), ..TWO };
/// On text in which nothing repeats.
pub(crate) const TWO_FRAGMENTS: Variant = Variant { control: Some(Control::Fragments), ..TWO };

impl Variant {
    /// Whether the paper has such a model: none was clamped, none learned from a control's text.
    fn is_of_the_paper(self) -> bool {
        self.clamp.is_none() && self.control.is_none() && self.options.is_none()
    }

    pub(crate) fn of(run: &Run) -> Self {
        let spec = &run.spec;
        Self {
            mlp: spec.model.d_mlp > 0,
            n_layers: spec.model.n_layers,
            smeared: spec.model.smeared_keys,
            clamp: Clamped::of(&spec.model.clamp),
            control: spec.data.control(),
            options: options(&spec.train),
        }
    }

    /// "2 layers, smeared keys"
    pub(crate) fn label(self) -> String {
        let layers = if self.n_layers == 1 {
            "1 layer".to_string()
        } else {
            format!("{} layers", self.n_layers)
        };
        let layers = if self.mlp { format!("{layers}, MLPs") } else { layers };
        let layers = match self.control {
            Some(Control::Shuffled) => format!("{layers}, shuffled text"),
            Some(Control::Fragments) => format!("{layers}, text in fragments"),
            None => layers,
        };
        let layers = match self.options {
            Some(said) => format!("{layers}, {said}"),
            None => layers,
        };
        match (self.smeared, self.clamp) {
            (_, Some(Clamped::PreviousToken)) => format!("{layers}, given a previous-token head"),
            (_, Some(Clamped::ForbidInduction)) => format!("{layers}, forbidden induction"),
            (false, Some(Clamped::Other(said))) => format!("{layers}, {said}"),
            (true, Some(Clamped::Other(said))) => format!("{layers}, smeared keys, {said}"),
            (true, None) => format!("{layers}, smeared keys"),
            (false, None) => layers,
        }
    }

    /// "2-layer smeared-key run"
    pub(crate) fn run(self) -> String {
        let variant = match (self.smeared, self.clamp) {
            (_, Some(Clamped::PreviousToken)) => "previous-token-clamped (`reproduce --clamp`)",
            (_, Some(Clamped::ForbidInduction)) => "induction-forbidden (`reproduce --clamp`)",
            (_, Some(Clamped::Other(said))) => said,
            (true, None) => "smeared-key",
            (false, None) => "vanilla",
        };
        let family = if self.mlp { " with MLPs" } else { "" };
        let text = match self.control {
            Some(Control::Shuffled) => " on shuffled text",
            Some(Control::Fragments) => " on text in fragments",
            None => "",
        };
        format!("{}-layer {variant} run{family}{text}", self.n_layers)
    }
}

/// The runs of one experiment: same data, one seed where possible, each variant at most once.
#[derive(Debug)]
pub(crate) struct Experiment<'a> {
    pub(crate) seed: u64,
    /// What its text is called: the corpus's file or folder.
    pub(crate) text: String,
    trained: Vec<Trained<'a>>,
    /// The paper's kinds of models with other seeds, of the leading experiment only: for what is
    /// said of heads in general.
    kin: Vec<Trained<'a>>,
    /// The same models on other texts, of the leading experiment only; that with the most models
    /// first.
    pub(crate) elsewhere: Vec<Experiment<'a>>,
    /// Which bootstrap draw this is; `None` for the experiment itself.
    pub(crate) draw: Option<Draw>,
}

impl<'a> Experiment<'a> {
    pub(crate) fn model(&self, variant: Variant) -> Option<&Trained<'a>> {
        self.trained.iter().find(|model| model.variant == variant)
    }

    /// The attention-only family, by depth: neither smeared nor clamped.
    pub(crate) fn vanilla(&self) -> impl Iterator<Item = &Trained<'a>> {
        self.attention_only().filter(|model| !model.variant.smeared)
    }

    /// The family with MLPs, by depth.
    pub(crate) fn with_mlps(&self) -> impl Iterator<Item = &Trained<'a>> {
        self.trained().filter(|model| model.variant.mlp && !model.variant.smeared)
    }

    /// Attention-only models, smeared ones too.
    pub(crate) fn attention_only(&self) -> impl Iterator<Item = &Trained<'a>> {
        self.trained().filter(|model| !model.variant.mlp)
    }

    /// Everybody: clamped models and negative controls, too.
    pub(crate) fn everybody(&self) -> impl Iterator<Item = &Trained<'a>> {
        self.trained.iter()
    }

    /// The same experiment on a bootstrap resample of its evaluation examples. Every run sees the
    /// same draw, as they share their examples.
    pub(crate) fn drawn(&self, draw: &Draw) -> Self {
        let trained = self.trained.iter().map(|model| model.drawn(draw)).collect();
        let kin = self.kin.iter().map(|model| model.drawn(draw)).collect();
        let elsewhere = self.elsewhere.iter().map(|experiment| experiment.drawn(draw)).collect();
        Self {
            seed: self.seed,
            text: self.text.clone(),
            trained,
            kin,
            elsewhere,
            draw: Some(draw.clone()),
        }
    }

    /// Whether there are several examples to draw from.
    pub(crate) fn has_examples(&self) -> bool {
        self.trained.iter().all(|model| model.run.icl[0].by_example.len() > 1)
    }

    /// The same with those of other seeds.
    pub(crate) fn with_kin(&self) -> impl Iterator<Item = &Trained<'a>> {
        self.trained().chain(&self.kin)
    }

    /// Share of the variance that each axis of the joint PCA explains.
    pub(crate) fn explained(&self) -> Option<&[f64]> {
        self.trained.iter().find_map(Trained::plane).map(|plane| plane.explained.as_slice())
    }

    /// The paper's kinds of models: none whose attention was clamped, and no negative control.
    pub(crate) fn trained(&self) -> impl Iterator<Item = &Trained<'a>> {
        self.trained.iter().filter(|model| model.variant.is_of_the_paper())
    }
}

/// The head of the leading experiment with the highest share on a behaviour, and its model.
pub(crate) fn best_on<'c, 'a>(
    lead: &'c Experiment<'a>,
    behaviour: &str,
) -> Option<(&'c Trained<'a>, &'a BehaviourScores)> {
    let of = |model: &'c Trained<'a>| {
        let run = model.run;
        let scores = run.explored.iter().flat_map(|explored| &explored.scores);
        scores.filter(|score| score.behaviour == behaviour).map(move |score| (model, score))
    };
    let mut best: Option<(&Trained<'a>, &BehaviourScores)> = None;
    for (model, score) in lead.trained().flat_map(of) {
        if best.is_none_or(|(_, so_far)| score.share > so_far.share) {
            best = Some((model, score));
        }
    }
    best
}

/// The experiments in `runs`: first the leading one, which decides the verdicts, then the same with
/// other seeds.
///
/// The leading run is chosen without a look at any result: 2 layers vanilla before anything else, a
/// corpus before the synthetic task, then the lowest seed, then the folder's name. The others share
/// its data; among those, its seed comes first. Runs on other data are experiments of their own
/// beside the leading one.
pub(crate) fn experiments(runs: &[Run]) -> Vec<Experiment<'_>> {
    let mut candidates: Vec<(Variant, &Run)> =
        runs.iter().map(|run| (Variant::of(run), run)).collect();
    candidates.sort_by_key(|(variant, run)| {
        (
            *variant != TWO,
            !matches!(run.spec.data, DataSpec::Corpus { .. }),
            run.spec.seed,
            run.folder.as_str(),
        )
    });
    let Some(&(_, lead)) = candidates.first() else {
        return Vec::new();
    };
    let (candidates, others): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|(_, run)| data_of(run) == data_of(lead));
    let mut seeds: Vec<u64> = candidates.iter().map(|(_, run)| run.spec.seed).collect();
    seeds.sort_by_key(|&seed| (seed != lead.spec.seed, seed));
    seeds.dedup();

    let plane = joint_pca(
        candidates.iter().filter(|(variant, _)| variant.is_of_the_paper()).map(|(_, run)| *run),
    )
    .map(Arc::new);
    let experiment = |seed: u64| {
        let mut mine = candidates.clone();
        // A variant that was trained with another seed only still serves the leading experiment.
        mine.retain(|(_, run)| seed == lead.spec.seed || run.spec.seed == seed);
        mine.sort_by_key(|(variant, run)| {
            (*variant, run.spec.seed != seed, run.spec.seed, run.folder.as_str())
        });
        mine.dedup_by_key(|(variant, _)| *variant);
        let trained = mine
            .into_iter()
            .map(|(variant, run)| Trained::new(run, variant, plane.clone()))
            .collect();
        Experiment {
            seed,
            text: text_of(lead),
            trained,
            kin: Vec::new(),
            elsewhere: Vec::new(),
            draw: None,
        }
    };
    let mut experiments: Vec<Experiment<'_>> = seeds.into_iter().map(experiment).collect();
    // What the leading experiment holds of another seed already, it does not meet twice.
    let kin: Vec<Trained<'_>> = candidates
        .iter()
        .filter(|(variant, run)| {
            variant.is_of_the_paper()
                && experiments[0].trained.iter().all(|model| !std::ptr::eq(model.run, *run))
        })
        .map(|&(variant, run)| Trained::new(run, variant, plane.clone()))
        .collect();
    experiments[0].kin = kin;
    experiments[0].elsewhere = elsewhere(others, lead.spec.seed);
    experiments
}

/// The experiments on other texts, one each; the paper's PCA is of one text, so these have none.
fn elsewhere(mut others: Vec<(Variant, &Run)>, seed: u64) -> Vec<Experiment<'_>> {
    let mut experiments = Vec::new();
    while let Some(&(_, first)) = others.first() {
        let (mut mine, rest): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|(_, run)| data_of(run) == data_of(first));
        others = rest;
        mine.sort_by_key(|(variant, run)| {
            (*variant, run.spec.seed != seed, run.spec.seed, run.folder.as_str())
        });
        mine.dedup_by_key(|(variant, _)| *variant);
        let trained: Vec<_> =
            mine.into_iter().map(|(variant, run)| Trained::new(run, variant, None)).collect();
        experiments.push(Experiment {
            seed,
            text: text_of(first),
            trained,
            kin: Vec::new(),
            elsewhere: Vec::new(),
            draw: None,
        });
    }
    experiments.sort_by_key(|experiment| {
        (std::cmp::Reverse(experiment.trained.len()), experiment.text.clone())
    });
    experiments
}

/// What tells data apart: the text's hash with how it is split, wherever the text lies; else the
/// whole section. A negative control learns from the same data, less something.
fn data_of(run: &Run) -> String {
    let mut data = run.spec.data.clone();
    if let DataSpec::Corpus { text, blake3, control, .. } = &mut data {
        *control = None;
        if blake3.is_some() {
            *text = PathBuf::new().into();
        }
    }
    format!("{data:?}")
}

/// "python-docs" of `fixtures/corpora/python-docs.jsonl.zst`; of a synthetic source its name.
fn text_of(run: &Run) -> String {
    let text = match &run.spec.data {
        DataSpec::Corpus { text, .. } => text,
        DataSpec::Synthetic(Synthetic::Repeats(_)) => return "synthetic".to_string(),
        DataSpec::Synthetic(source) => return source.name().to_string(),
    };
    let stem = |path: &Path| {
        let path = path.to_string_lossy();
        let path = path.as_ref();
        let name = path.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or(path);
        visible(name.split('.').next().filter(|stem| !stem.is_empty()).unwrap_or(name))
    };
    match &text.path[..] {
        [] => "text".to_string(),
        [one] => stem(one),
        [first, more @ ..] => format!("{} and {} more", stem(first), more.len()),
    }
}

/// The plane in which the random-token losses of all snapshots of all runs differ most (paper.md,
/// 2), if they were taken on the same examples and differ at all.
fn joint_pca<'a>(runs: impl Iterator<Item = &'a Run>) -> Option<Pca> {
    let snapshots: Vec<&[f64]> =
        runs.flat_map(|run| &run.random_tokens).map(|point| point.losses.as_slice()).collect();
    let columns = snapshots.first()?.len();
    let mut rows = Array2::<f32>::zeros((snapshots.len(), columns));
    for (mut row, losses) in rows.axis_iter_mut(Axis(0)).zip(snapshots) {
        if losses.len() != columns {
            return None;
        }
        row.zip_mut_with(&ArrayView1::from(losses), |to, &from| *to = from as f32);
    }
    pca(rows.view(), COMPONENTS).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clamp_that_no_claim_is_about_is_told_by_its_settings() {
        let clamp = Clamp::Match { layer: 0, head: 1 };
        assert_eq!(in_words(&[clamp, Clamp::ForbidInduction]), "match 0.1 and forbid-induction");
        let timed = TimedClamp { clamp, from: 3, until: Some(9) };
        let train = TrainSpec { clamps: vec![timed], ..TrainSpec::new(1, 1, 1.0) };
        assert_eq!(options(&train), Some("match 0.1 from step 3 to step 9"));
        assert_eq!(options(&TrainSpec::new(1, 1, 1.0)), None);
    }
}
