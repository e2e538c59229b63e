//! What each head does, as far as it stands out among all.

use std::collections::BTreeMap;

use induction_metrics::evidence;
use induction_records::{Cause, HeadRow, StandsOut};

/// The measures that tell what a head does, each with what a head does that stands out by it. All
/// are means over samples.
pub const MEASURES: [(&str, &str); 11] = [
    ("prefix_matching", "matches prefixes"),
    ("previous_token", "attends to the token before"),
    ("duplicate_token", "attends to copies of the token itself"),
    ("start_token", "rests on the first token"),
    ("retrieval", "attends to what is asked for"),
    ("successor", "raises what comes next in an order"),
    (Cause::TokenCopying.nats(), "copies tokens"),
    (Cause::ConceptCopying.nats(), "copies words"),
    (Cause::InductionCut.nats(), "is needed where it matches prefixes"),
    (Cause::CopySuppression.nats(), "holds back what is expected already"),
    (Cause::FunctionVector.nats(), "tells what the task is"),
];

/// The heads that stand out by each measure that they have, measure by measure, the largest effects
/// first ([`evidence`]); `samples` says how many samples each measure is a mean over.
pub(super) fn stand_out(
    heads: &[HeadRow],
    n_heads: usize,
    samples: &BTreeMap<&str, usize>,
) -> Vec<StandsOut> {
    let mut found = Vec::new();
    for (measure, _) in MEASURES {
        let Some(&samples) = samples.get(measure) else { continue };
        let score = |row: &HeadRow| {
            let stderr = row.scores.get(&format!("{measure}_stderr")).copied().flatten();
            (row.score(measure), stderr)
        };
        let scores: Vec<Vec<_>> =
            heads.chunks(n_heads).map(|layer| layer.iter().map(score).collect()).collect();
        let all = evidence(&scores, samples);
        let of_heads = heads.iter().zip(all.into_iter().flatten());
        let mut here: Vec<StandsOut> = of_heads
            .filter_map(|(row, of)| {
                let of = of.filter(|of| of.stands_out)?;
                Some(StandsOut {
                    measure: measure.to_string(),
                    layer: row.layer,
                    head: row.head,
                    effect: of.effect,
                    margin: of.margin,
                })
            })
            .collect();
        here.sort_by(|a, b| b.effect.total_cmp(&a.effect));
        found.extend(here);
    }
    found
}
