//! The claims about heads at the end of training: where they lie, and how their scores go together.

use induction_metrics::{TwoByTwo, resample, spearman};
use induction_records::{BehaviourScores, Downstream};
use rand_distr::{Distribution, StandardNormal};

use super::INDUCTION_HEAD_ABOVE;
use super::limits::{
    B2_OTHERS_BELOW, Q15_COPIES_FROM, Q15_OV_FROM, Q15_PREFIX_MATCHING_ABOVE, SIZES_FROM,
};
use crate::experiment::{Experiment, Trained, best_on};
use crate::load::HeadScore;
use crate::text::{number, percent};

/// Seed of the draws of models.
const SEED: u64 = 1;

/// Vanilla models of 3 layers or more. Of two layers only the second can hold an induction head.
fn deep<'c, 'a>(experiment: &'c Experiment<'a>) -> impl Iterator<Item = &'c Trained<'a>> {
    experiment.vanilla().filter(|model| model.variant.n_layers >= 3)
}

fn deep_with_mlps<'c, 'a>(experiment: &'c Experiment<'a>) -> impl Iterator<Item = &'c Trained<'a>> {
    experiment.with_mlps().filter(|model| (5..=6).contains(&model.variant.n_layers))
}

/// Why a claim about the layer of some models' best heads cannot be judged.
fn needs_heads<'c, 'a: 'c>(
    mut models: impl Iterator<Item = &'c Trained<'a>> + Clone,
    of: &str,
) -> Result<(), String> {
    let ends: Vec<String> = models
        .clone()
        .map(|model| {
            format!("{} {}", model.variant.label(), number(model.best_head().prefix_matching))
        })
        .collect();
    if ends.is_empty() {
        return Err(format!("No {of} is here: `reproduce --scale full` trains them."));
    }
    if models.any(Trained::has_induction_head) {
        return Ok(());
    }
    Err(format!(
        "No head of theirs ends above {} within the budget (best: {}), so where induction heads form is not seen. More tokens would decide it.",
        number(INDUCTION_HEAD_ABOVE),
        ends.join("; ")
    ))
}

pub(super) fn needs_deep(experiment: &Experiment<'_>) -> Result<(), String> {
    needs_heads(
        deep(experiment).collect::<Vec<_>>().into_iter(),
        "attention-only model of 3 layers or more",
    )
}

pub(super) fn needs_deep_with_mlps(experiment: &Experiment<'_>) -> Result<(), String> {
    needs_heads(
        deep_with_mlps(experiment).collect::<Vec<_>>().into_iter(),
        "model of 5 or 6 layers with MLPs",
    )
}

/// The share of some models, of those with an induction head, whose best head lies so many layers
/// from the last.
fn share_at<'c, 'a: 'c>(
    models: impl Iterator<Item = &'c Trained<'a>>,
    from_last: usize,
) -> Option<f64> {
    let there: Vec<bool> = models
        .filter(|model| model.has_induction_head())
        .map(|model| model.best_head().layer + 1 + from_last == model.variant.n_layers)
        .collect();
    let count = there.iter().filter(|&&there| there).count();
    (!there.is_empty()).then(|| count as f64 / there.len() as f64)
}

pub(super) fn share_in_last_layer(experiment: &Experiment<'_>) -> Option<f64> {
    share_at(deep(experiment), 0)
}

pub(super) fn share_in_second_to_last_layer(experiment: &Experiment<'_>) -> Option<f64> {
    share_at(deep_with_mlps(experiment), 1)
}

/// "3 layers: head 2.3, prefix matching 0.69" of each.
fn places<'c, 'a: 'c>(models: impl Iterator<Item = &'c Trained<'a>>) -> String {
    let each: Vec<String> = models
        .map(|model| {
            let best = model.best_head();
            let (label, score) = (model.variant.label(), number(best.prefix_matching));
            format!("{label}: head {}.{}, prefix matching {score}", best.layer, best.head)
        })
        .collect();
    format!("{} (layers count from 0).", each.join("; "))
}

pub(super) fn places_in_words(experiment: &Experiment<'_>) -> String {
    places(deep(experiment))
}

pub(super) fn places_with_mlps_in_words(experiment: &Experiment<'_>) -> String {
    places(deep_with_mlps(experiment))
}

/// Depth of each model with MLPs and 2 layers or more that has an induction head, and where its
/// best head lies: 0 the bottom, 1 the top.
fn relative_depths(experiment: &Experiment<'_>) -> Vec<(f64, f64)> {
    let with_head = experiment
        .with_mlps()
        .filter(|model| model.variant.n_layers > 1 && model.has_induction_head());
    with_head
        .map(|model| {
            let n = model.variant.n_layers as f64;
            (n, model.best_head().layer as f64 / (n - 1.0))
        })
        .collect()
}

pub(super) fn needs_depths(experiment: &Experiment<'_>) -> Result<(), String> {
    let mut depths: Vec<u64> =
        relative_depths(experiment).iter().map(|(depth, _)| *depth as u64).collect();
    depths.sort_unstable();
    depths.dedup();
    if depths.len() >= SIZES_FROM {
        return Ok(());
    }
    Err(format!(
        "Models with MLPs of {} depths have an induction head here, expected at least {SIZES_FROM}; `reproduce --scale full` trains 5 depths of each family.",
        depths.len()
    ))
}

pub(super) fn rho_depth(experiment: &Experiment<'_>) -> Option<f64> {
    rho(relative_depths(experiment).into_iter().unzip())
}

pub(super) fn depths_in_words(experiment: &Experiment<'_>) -> String {
    let each: Vec<String> = relative_depths(experiment)
        .iter()
        .map(|(depth, at)| format!("{depth} layers at {}", percent(*at)))
        .collect();
    format!("Layer of the best head, from the bottom (0 %) to the top: {}.", each.join(", "))
}

/// Two numbers of every head of some models at the last snapshot, or of a draw among these models.
fn pairs<'c, 'a: 'c>(
    experiment: &'c Experiment<'a>,
    models: impl Iterator<Item = &'c Trained<'a>>,
    numbers: impl Fn(&'c Trained<'a>, &HeadScore) -> Option<(f64, f64)>,
) -> (Vec<f64>, Vec<f64>) {
    let models: Vec<_> = models.collect();
    // Heads of one model are no independent witnesses: models are drawn, with all their heads.
    let counts = match &experiment.draw {
        None => vec![1; models.len()],
        Some(draw) => resample(SEED, draw.index, models.len()),
    };
    let mut both = (Vec::new(), Vec::new());
    for (model, count) in models.into_iter().zip(counts).filter(|(_, count)| *count > 0) {
        let of: Vec<(f64, f64)> =
            model.last_heads().iter().filter_map(|head| numbers(model, head)).collect();
        both.extend((0..count).flat_map(|_| of.iter().copied()));
    }
    both
}

fn rho((x, y): (Vec<f64>, Vec<f64>)) -> Option<f64> {
    spearman(&x, &y).ok().flatten()
}

/// Attention-only models without smeared keys, of every seed: the trace of a smeared model's QK
/// circuit would leave out what the smear itself brings, and the paper draws these.
fn vanilla_of_every_seed<'c, 'a>(
    experiment: &'c Experiment<'a>,
) -> impl Iterator<Item = &'c Trained<'a>> {
    experiment.with_kin().filter(|model| !model.variant.mlp && !model.variant.smeared)
}

/// Where a head's copying score lies between chance and the ceiling of its rank.
fn copies(model: &Trained<'_>, head: &HeadScore) -> Option<f64> {
    model.run.copying_ceiling.share(head.copying)
}

pub(super) fn rho_copying(experiment: &Experiment<'_>) -> Option<f64> {
    rho(pairs(experiment, experiment.with_kin(), |model, head| {
        Some((head.prefix_matching, copies(model, head)?))
    }))
}

/// What a head's output alone does to the next token's log probability where it is carried into a
/// prompt that holds no copy.
pub(super) fn rho_causes(experiment: &Experiment<'_>) -> Option<f64> {
    rho(pairs(experiment, experiment.with_kin(), |_, head| {
        Some((head.prefix_matching, head.token_copying_nats?.0))
    }))
}

pub(super) fn needs_causes(experiment: &Experiment<'_>) -> Result<(), String> {
    super::change::needs_two(experiment)?;
    let mut heads = experiment.with_kin().flat_map(Trained::last_heads);
    match heads.any(|head| head.token_copying_nats.is_some()) {
        true => Ok(()),
        false => Err("The runs were measured by an earlier version, or their context or vocabulary is too small for the prompts; without their `measurements` folders they are measured again.".to_string()),
    }
}

/// Whether a head raises the next token's probability beyond the noise of its prompts.
fn copies_by_cause(head: &HeadScore) -> Option<bool> {
    /// How many standard errors an interval of 95 % reaches to each side.
    const REACH: f64 = 1.96;
    let (nats, stderr) = head.token_copying_nats?;
    Some(nats > REACH * stderr?)
}

/// The share of heads that copy by cause, of those whose prefix matching is as `these` says.
fn share_copying(experiment: &Experiment<'_>, these: fn(f64) -> bool) -> Option<f64> {
    let (_, copy) = pairs(experiment, experiment.with_kin(), |_, head| {
        let copies = copies_by_cause(head)?;
        these(head.prefix_matching).then(|| (head.prefix_matching, f64::from(u8::from(copies))))
    });
    (!copy.is_empty()).then(|| copy.iter().sum::<f64>() / copy.len() as f64)
}

pub(super) fn share_that_copies(experiment: &Experiment<'_>) -> Option<f64> {
    share_copying(experiment, |matching| matching > INDUCTION_HEAD_ABOVE)
}

pub(super) fn share_of_others_that_copies(experiment: &Experiment<'_>) -> Option<f64> {
    share_copying(experiment, |matching| matching < B2_OTHERS_BELOW)
}

pub(super) fn causes_in_words(experiment: &Experiment<'_>) -> String {
    let heads: Vec<&HeadScore> = experiment.with_kin().flat_map(Trained::last_heads).collect();
    let counted = |these: &dyn Fn(f64) -> bool| {
        let of: Vec<&&HeadScore> =
            heads.iter().filter(|head| these(head.prefix_matching)).collect();
        let copy = of.iter().filter(|head| copies_by_cause(head) == Some(true)).count();
        let nats: Vec<f64> =
            of.iter().filter_map(|head| Some(head.token_copying_nats?.0)).collect();
        let mean = nats.iter().sum::<f64>() / nats.len().max(1) as f64;
        (of.len(), copy, mean)
    };
    let (all, copy, mean) = counted(&|matching| matching > INDUCTION_HEAD_ABOVE);
    let (others, of_others, of_others_mean) = counted(&|matching| matching < B2_OTHERS_BELOW);
    let middle = heads.len() - all - others;
    format!(
        "Of {all} heads with prefix matching above {}, {copy} raise the next token of what was told before by more than the noise, on average by {} nats each; of {others} heads below {B2_OTHERS_BELOW}, {of_others}, on average by {} nats; {middle} lie between.",
        number(INDUCTION_HEAD_ABOVE),
        number(mean),
        number(of_others_mean)
    )
}

pub(super) fn rho_ov(experiment: &Experiment<'_>) -> Option<f64> {
    rho(pairs(experiment, vanilla_of_every_seed(experiment), |_, head| {
        Some((head.copying, head.ov_copying))
    }))
}

pub(super) fn rho_qk(experiment: &Experiment<'_>) -> Option<f64> {
    rho(pairs(experiment, vanilla_of_every_seed(experiment), |_, head| {
        Some((head.prefix_matching, head.qk_trace?))
    }))
}

fn table_of((matching, copying): (Vec<f64>, Vec<f64>), copies_from: f64) -> TwoByTwo {
    let mut table = TwoByTwo::default();
    for (matching, copying) in matching.iter().zip(&copying) {
        let cell = match (*matching > Q15_PREFIX_MATCHING_ABOVE, *copying > copies_from) {
            (true, true) => &mut table.both,
            (true, false) => &mut table.first_only,
            (false, true) => &mut table.second_only,
            (false, false) => &mut table.neither,
        };
        *cell += 1;
    }
    table
}

/// Heads that match prefixes against heads that copy, by the score.
fn copying_table(experiment: &Experiment<'_>) -> TwoByTwo {
    let pairs = pairs(experiment, experiment.with_kin(), |model, head| {
        Some((head.prefix_matching, copies(model, head)?))
    });
    table_of(pairs, Q15_COPIES_FROM)
}

/// The same by the OV circuit's eigenvalues.
fn ov_table(experiment: &Experiment<'_>) -> TwoByTwo {
    table_of(
        pairs(experiment, experiment.with_kin(), |_, head| {
            Some((head.prefix_matching, head.ov_copying))
        }),
        Q15_OV_FROM,
    )
}

pub(super) fn p_copying(experiment: &Experiment<'_>) -> Option<f64> {
    Some(copying_table(experiment).fisher())
}

pub(super) fn p_ov(experiment: &Experiment<'_>) -> Option<f64> {
    Some(ov_table(experiment).fisher())
}

pub(super) fn copying_in_words(experiment: &Experiment<'_>) -> String {
    let ceilings: Vec<String> = experiment
        .trained()
        .map(|model| {
            let known = model.run.copying_ceiling;
            format!(
                "{} {} to {}",
                model.variant.label(),
                number(known.chance),
                number(known.ceiling)
            )
        })
        .collect();
    let counted = |table: TwoByTwo, how: &str| {
        format!(
            "Of {} heads with prefix matching above {Q15_PREFIX_MATCHING_ABOVE}, {} copy by {how}; of the {} others, {} (odds ratio {}, Fisher's one-sided p {:.2e})",
            table.both + table.first_only,
            table.both,
            table.second_only + table.neither,
            table.second_only,
            table.odds_ratio().map_or("undefined".to_string(), number),
            table.fisher()
        )
    };
    let raw = pairs(experiment, experiment.with_kin(), |_, head| {
        Some((head.prefix_matching, head.copying))
    });
    let above: usize = raw
        .0
        .iter()
        .zip(&raw.1)
        .filter(|(matching, copying)| **matching > Q15_PREFIX_MATCHING_ABOVE && **copying > 0.0)
        .count();
    format!(
        "{}. {}. By the paper's own limit, a score above 0, {above} of the first copy; a head of this width cannot be expected to score more than its ceiling (from a head that raises all tokens alike to a perfect copier of its rank: {}).",
        counted(
            copying_table(experiment),
            "the score (half-way from chance to the ceiling of their rank)"
        ),
        counted(
            ov_table(experiment),
            &format!("their OV circuit's eigenvalues (ratio above {Q15_OV_FROM})")
        ),
        ceilings.join("; ")
    )
}

pub(super) fn circuits_in_words(experiment: &Experiment<'_>) -> String {
    let heads = vanilla_of_every_seed(experiment).flat_map(Trained::last_heads);
    let (all, later) = heads
        .fold((0, 0), |(all, later), head| (all + 1, later + usize::from(head.qk_trace.is_some())));
    format!(
        "Over {all} heads of attention-only models without smeared keys for copying and the OV eigenvalue ratio, and over the {later} after the first layer for prefix matching and the QK trace."
    )
}

/// What removing a head costs in same-token ICL at the end, patterns kept.
fn effect_of(model: &Trained<'_>, head: &HeadScore) -> Option<f64> {
    let last = model.run.ablations.last()?;
    let effects = model.removal_effects(last, Downstream::PatternPreserving);
    effects.into_iter().find(|(name, _)| *name == head.id()).map(|(_, effect)| effect)
}

fn doses<'c, 'a>(experiment: &'c Experiment<'a>) -> impl Iterator<Item = &'c Trained<'a>> {
    let deep = vanilla_of_every_seed(experiment).filter(|model| model.variant.n_layers > 1);
    deep.filter(|model| !model.run.ablations.is_empty())
}

pub(super) fn needs_doses(experiment: &Experiment<'_>) -> Result<(), String> {
    super::ablations::needs_ablated(experiment)
}

pub(super) fn rho_dose(experiment: &Experiment<'_>) -> Option<f64> {
    // Layers after the first alone: in the first no head can match prefixes, and what it costs to
    // remove it is another matter.
    let later = |model: &Trained<'_>, head: &HeadScore| {
        (head.layer > 0).then(|| Some((head.prefix_matching, effect_of(model, head)?))).flatten()
    };
    rho(pairs(experiment, doses(experiment), later))
}

pub(super) fn doses_in_words(experiment: &Experiment<'_>) -> String {
    let mut heads: Vec<(f64, f64)> = doses(experiment)
        .flat_map(|model| model.last_heads().iter().map(move |head| (model, head)))
        .filter(|(_, head)| head.layer > 0)
        .filter_map(|(model, head)| Some((head.prefix_matching, effect_of(model, head)?)))
        .collect();
    heads.sort_by(|a, b| a.0.total_cmp(&b.0));
    let third = heads.len().div_ceil(3).max(1);
    let each: Vec<String> = heads
        .chunks(third)
        .map(|part| {
            let mean = |take: fn(&(f64, f64)) -> f64| {
                part.iter().map(take).sum::<f64>() / part.len() as f64
            };
            format!("{:+.3} nats at prefix matching {}", mean(|x| x.1), number(mean(|x| x.0)))
        })
        .collect();
    format!(
        "{} heads after the first layer of attention-only models without smeared keys; mean cost in same-token ICL of removing a head, by thirds of prefix matching: {}.",
        heads.len(),
        each.join(", ")
    )
}

const PATTERN: &str = "pattern matching";

/// A score with its standard error over prompts; in a bootstrap draw, one drawn from it.
fn drawn(experiment: &Experiment<'_>, value: f64, stderr: Option<f64>) -> f64 {
    let Some(draw) = &experiment.draw else { return value };
    let z: f64 =
        StandardNormal.sample(&mut induction_random::stream(0, "prompt scores", draw.index));
    value + z * stderr.unwrap_or_default()
}

/// What a head would get of the attention on digits without knowing kinds: by chance, or by copying
/// literally.
fn without_kinds(score: &BehaviourScores) -> f64 {
    score.literal_share_among.unwrap_or_default().max(score.chance_among)
}

pub(super) fn needs_prompts(experiment: &Experiment<'_>) -> Result<(), String> {
    match best_on(experiment, PATTERN) {
        Some(_) => Ok(()),
        None => {
            Err("No model on this data read the prompts: they need text, and a context that holds them.".to_string())
        }
    }
}

pub(super) fn pattern_share(experiment: &Experiment<'_>) -> Option<f64> {
    let (_, score) = best_on(experiment, PATTERN)?;
    Some(drawn(experiment, score.share, score.share_stderr))
}

pub(super) fn pattern_beyond_literal(experiment: &Experiment<'_>) -> Option<f64> {
    let (_, score) = best_on(experiment, PATTERN)?;
    Some(drawn(experiment, score.share_among, score.share_among_stderr) - without_kinds(score))
}

pub(super) fn pattern_in_words(experiment: &Experiment<'_>) -> String {
    let Some((model, score)) = best_on(experiment, PATTERN) else { return String::new() };
    format!(
        "On lines whose two words are both new, head {} of {} gives {} of its attention to right digits ({} if spread over all earlier positions), and {} of what goes to digits ({} if spread over them, {} if it copied literally). It is the largest of {} heads, so expect it to lie a little high.",
        score.id(),
        model.variant.label(),
        percent(score.share),
        percent(score.chance),
        percent(score.share_among),
        percent(score.chance_among),
        score.literal_share_among.map_or("unknown".to_string(), percent),
        experiment.trained().map(|model| model.last_heads().len()).sum::<usize>()
    )
}
