//! What a scan asks by cause.

use std::collections::BTreeMap;

use induction_ablation::HeadId;
use induction_engine::Engine;
use induction_metrics::{
    CopyingCeiling, Interval, RoleThresholds, percentile_interval, resample, spearman,
};
use induction_model::Normalization;
use induction_records::{ByCause, CutHeads, GoesWith, HeadRow, PathsInto, Prompt};
use ndarray::{Array1, ArrayView2};

use super::opened::Opened;
use crate::{
    Error, cause, measure::weights::ceiling_between, paths, relatives, source::EVALUATION_SEED,
};

/// Dimensions of the residual stream up to which the copying score's ceiling is taken: the time that
/// it takes grows with their third power.
const CEILING_WIDTH: usize = 1024;

/// Numbers of an embedding up to which it is taken: both embeddings are in memory for it.
const CEILING_NUMBERS: usize = 1 << 26;

/// Heads that it is asked of what feeds them.
const FED: usize = 3;

/// The scale of the copying score, of a model whose embeddings are not too wide for it.
pub(super) fn copying_ceiling(
    opened: &Opened,
    samples: ArrayView2<'_, u32>,
) -> Result<Option<CopyingCeiling>, Error> {
    let config = &opened.config;
    if config.d_model > CEILING_WIDTH || config.d_model * config.d_vocab > CEILING_NUMBERS {
        return Ok(None);
    }
    let weights = opened.weights.as_ref();
    let all: Vec<u32> = (0..config.d_vocab as u32).collect();
    let w_e = weights.embedding_of(&all)?;
    let w_u = weights.unembedding_of(0..config.d_vocab)?.reversed_axes();
    let gain: Option<Array1<f32>> = match config.normalization {
        Normalization::None => None,
        _ => Some(weights.parameter("ln_final.w")?.into_dimensionality().expect("a row")),
    };
    let gain = gain.as_ref().map(|gain| gain.view());
    let place = |source| Error::Metric { place: "the copying score's ceiling".into(), source };
    ceiling_between(config, [w_e, w_u], gain, samples).map(Some).map_err(place)
}

/// What heads do by cause, and each head's share among its scores; and how many samples each of
/// these is a mean over.
pub(super) fn by_cause(
    engine: &dyn Engine,
    opened: &Opened,
    prompts: usize,
    heads: &mut [HeadRow],
    say: &dyn Fn(&str),
) -> Result<(Vec<ByCause>, BTreeMap<&'static str, usize>), Error> {
    if prompts == 0 {
        return Ok((Vec::new(), BTreeMap::new()));
    }
    let source = opened.source();
    let say = |what: &str| say(&format!("{}: {what}", opened.facts.name));
    say("relatives of induction heads");
    let mut samples = BTreeMap::new();
    for relatives::Score { name, samples: count, heads: of } in
        relatives::scores(engine, opened.weights.as_ref(), &source)?
    {
        samples.insert(name, count);
        for row in heads.iter_mut() {
            let (score, stderr) = of[row.layer][row.head];
            row.scores.insert(name.to_string(), Some(score));
            row.scores.insert(format!("{name}_stderr"), stderr);
        }
    }
    let found = cause::all(engine, &source, prompts, &say)?;
    found.iter().for_each(|found| found.add_to(heads));
    let mut found: Vec<ByCause> = found.into_iter().map(|found| found.whole).collect();
    for of in &mut found {
        of.matching = goes_with_matching(heads, of.cause.nats());
    }
    samples.extend(found.iter().map(|of| (of.cause.nats(), of.prompts)));
    Ok((found, samples))
}

/// How a score goes with prefix matching over all heads.
fn goes_with_matching(heads: &[HeadRow], score: &str) -> Option<GoesWith> {
    const DRAWS: u64 = 400;
    /// Fewer heads have ranks of their own by chance.
    const HEADS: usize = 8;
    /// Scores that differ by less may differ by the rounding of a loss, in nats.
    const ROUNDING: f64 = 1e-4;
    let columns: Vec<[f64; 2]> =
        heads.iter().map(|row| [row.score("prefix_matching"), row.score(score)]).collect();
    let most = |x: f64, of: fn(f64, f64) -> f64| columns.iter().fold(x, |x, both| of(x, both[1]));
    let range = most(f64::MIN, f64::max) - most(f64::MAX, f64::min);
    if columns.len() < HEADS || range < ROUNDING {
        return None;
    }
    let correlation = |counts: &[u32]| {
        let drawn = columns.iter().zip(counts);
        let drawn = drawn.flat_map(|(both, &count)| std::iter::repeat_n(both, count as usize));
        let (x, y): (Vec<f64>, Vec<f64>) = drawn.map(|&[x, y]| (x, y)).unzip();
        spearman(&x, &y).ok().flatten()
    };
    let rank_correlation = correlation(&vec![1; columns.len()])?;
    let drawn =
        (0..DRAWS).filter_map(|draw| correlation(&resample(EVALUATION_SEED, draw, columns.len())));
    let drawn: Vec<f64> = drawn.collect();
    let Interval { low, high } = percentile_interval(&drawn, 0.95).ok().flatten()?;
    Some(GoesWith { rank_correlation, low, high })
}

/// What heads' induction patterns are worth together.
pub(super) fn cut(
    engine: &dyn Engine,
    opened: &Opened,
    prompts: usize,
    asked: &[Prompt],
    heads: &[HeadRow],
    say: &dyn Fn(&str),
) -> Result<Vec<CutHeads>, Error> {
    if prompts == 0 {
        return Ok(Vec::new());
    }
    say(&format!("{}: the best heads' induction patterns", opened.facts.name));
    cause::together::worth(engine, &opened.source(), asked, heads)
}

/// The paths into the heads that match prefixes best, of those that do.
pub(super) fn paths(
    engine: &dyn Engine,
    opened: &Opened,
    prompts: usize,
    heads: &[HeadRow],
    say: &dyn Fn(&str),
) -> Result<Vec<PathsInto>, Error> {
    if prompts == 0 {
        return Ok(Vec::new());
    }
    say(&format!("{}: what feeds the heads that match prefixes", opened.facts.name));
    let limit = RoleThresholds::default().prefix_matching;
    let score = |row: &HeadRow| row.score("prefix_matching");
    let mut best: Vec<&HeadRow> = heads.iter().filter(|row| score(row) > limit).collect();
    best.sort_by(|a, b| score(b).total_cmp(&score(a)));
    let best: Vec<HeadId> = best.into_iter().take(FED).map(HeadRow::id).collect();
    paths::into(engine, opened.weights.as_ref(), &opened.source(), &best)
}
