//! The report of a study: its numbers, its claims, its figures.
//!
//! Where a folder holds a `study.toml`, [`build`](crate::build) makes this of it instead of the
//! reproduction's report. The claims are the study's own, and so are their rules; runs are known by
//! their names, which the study gives them.

mod figures;
mod markdown;

use std::collections::BTreeMap;
use std::path::Path;

use induction_metrics::{Interval, mean_interval, time_to};
use induction_records::{Compared, Limit, Study, StudyClaim, StudyMeasure};
use serde::Serialize;

use crate::claims::INDUCTION_HEAD_ABOVE;
use crate::text::{number, percent, tokens, visible};
use crate::{Claim, ReportError, Run, Verdict};

pub(crate) use figures::figures;
pub(crate) use markdown::{markdown, table as numbers};

/// Level of the intervals over seeds.
const LEVEL: f64 = 0.95;

/// A study with the runs that are there.
pub(crate) struct Studied<'a> {
    pub(crate) study: &'a Study,
    /// By variant, in the study's order, and seed.
    runs: Vec<BTreeMap<u64, &'a Run>>,
}

/// A measure of a variant over its seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct OverSeeds {
    pub(crate) mean: f64,
    /// 95 %, by Student's t; `None` of one seed.
    pub(crate) interval: Option<Interval>,
}

impl OverSeeds {
    fn of(values: &[f64]) -> Option<Self> {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (!values.is_empty()).then(|| Self { mean, interval: mean_interval(values, LEVEL) })
    }
}

/// A value of a run, and whether it is a bound: what was waited for did not come.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Value {
    value: f64,
    beyond: bool,
}

/// Reads the study in `dir`, if there is one.
pub(crate) fn load(dir: &Path) -> Result<Option<Study>, ReportError> {
    let path = dir.join(induction_records::STUDY);
    if path.exists() { Ok(Some(Study::read(&path)?)) } else { Ok(None) }
}

impl<'a> Studied<'a> {
    pub(crate) fn new(study: &'a Study, runs: &'a [Run]) -> Self {
        let of = |variant: &str| {
            let run = |seed: &u64| {
                let name = Study::run_name(variant, *seed);
                runs.iter().find(|run| run.folder == name).map(|run| (*seed, run))
            };
            study.seeds.iter().filter_map(run).collect()
        };
        Self { study, runs: study.variants.iter().map(|variant| of(&variant.name)).collect() }
    }

    /// A variant's runs, by seed.
    pub(crate) fn of(&self, variant: &str) -> &BTreeMap<u64, &'a Run> {
        let at = self.study.variants.iter().position(|known| known.name == variant);
        &self.runs[at.expect("a study that was read names variants that it has")]
    }

    fn value(&self, measure: StudyMeasure, seed: u64, run: &Run) -> Option<Value> {
        if measure != StudyMeasure::TimeToHalf {
            let (_, value) = *curve(measure, run).last()?;
            return Some(Value { value, beyond: false });
        }
        let first = self.runs[0].get(&seed)?;
        let goal = curve(StudyMeasure::Icl, first).last()?.1 / 2.0;
        let (at, amounts): (Vec<f64>, Vec<f64>) = curve(StudyMeasure::Icl, run).into_iter().unzip();
        let found = time_to(&at, &amounts, goal);
        Some(Value { value: found.or(at.last().copied())?, beyond: found.is_none() })
    }

    /// A measure of a variant, over the seeds that are there.
    pub(crate) fn over_seeds(&self, measure: StudyMeasure, variant: &str) -> Option<OverSeeds> {
        let values =
            self.of(variant).iter().filter_map(|(&seed, run)| self.value(measure, seed, run));
        OverSeeds::of(&values.map(|found| found.value).collect::<Vec<_>>())
    }

    /// Of how many seeds what is waited for did not come.
    pub(crate) fn beyond(&self, measure: StudyMeasure, variant: &str) -> usize {
        let found =
            self.of(variant).iter().filter_map(|(&seed, run)| self.value(measure, seed, run));
        found.filter(|found| found.beyond).count()
    }

    /// What decides a claim: its number of each seed that has it.
    fn numbers(&self, claim: &StudyClaim) -> Vec<Value> {
        let of_seed = |(&seed, run): (&u64, &&Run)| {
            let own = self.value(claim.measure, seed, run)?;
            let Some((against, by)) = claim.against.as_ref().zip(claim.by) else {
                return Some(own);
            };
            let other = self.value(claim.measure, seed, self.of(against).get(&seed)?)?;
            let value = match by {
                Compared::Ratio => own.value / other.value,
                Compared::Difference => own.value - other.value,
            };
            Some(Value { value, beyond: own.beyond || other.beyond })
        };
        self.of(&claim.of)
            .iter()
            .filter_map(of_seed)
            .filter(|found| found.value.is_finite())
            .collect()
    }

    /// Judges a claim by the mean over seeds.
    pub(crate) fn judge(&self, claim: &StudyClaim) -> Judged {
        let numbers = self.numbers(claim);
        let ratio = claim.by == Some(Compared::Ratio);
        let values: Vec<f64> = numbers.iter().map(|found| found.value).collect();
        // Ratios vary by factors: their logarithms have a mean and an interval.
        let in_logs = ratio && values.iter().all(|&x| x > 0.0);
        let to = |x: f64| if in_logs { x.ln() } else { x };
        let from = |x: f64| if in_logs { x.exp() } else { x };
        let logs: Vec<f64> = values.iter().map(|&x| to(x)).collect();
        let found = OverSeeds::of(&logs).map(|found| OverSeeds {
            mean: from(found.mean),
            interval: found
                .interval
                .map(|ends| Interval { low: from(ends.low), high: from(ends.high) }),
        });
        let verdict = |value: f64| {
            if claim.holds.contains(value) {
                Verdict::Reproduced
            } else if claim.weakly.is_some_and(|limit| limit.contains(value)) {
                Verdict::Partly
            } else {
                Verdict::Not
            }
        };
        let of_mean = found.map_or(Verdict::OutOfReach, |found| verdict(found.mean));
        let decided = found.and_then(|found| found.interval).is_some_and(|ends| {
            [ends.low, ends.high].into_iter().all(|end| verdict(end) == of_mean)
        });
        let beyond = numbers.iter().filter(|found| found.beyond).count();
        Judged { verdict: of_mean, found, values, beyond, decided }
    }
}

/// A claim's verdict and what it rests on.
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    pub(crate) found: Option<OverSeeds>,
    /// One a seed.
    pub(crate) values: Vec<f64>,
    /// Of how many of them what was waited for did not come, so that they are bounds.
    pub(crate) beyond: usize,
    /// Whether both ends of the interval have the same verdict.
    pub(crate) decided: bool,
}

/// A study's claim as `claims.json` has it.
#[derive(Serialize)]
pub(crate) struct Entry<'a> {
    pub(crate) id: &'a str,
    pub(crate) title: &'a str,
    /// What was expected, and where that is from.
    pub(crate) paper: &'a str,
    pub(crate) ours: String,
    pub(crate) interval: Option<String>,
    pub(crate) verdict: Verdict,
    pub(crate) why: String,
}

impl Studied<'_> {
    pub(crate) fn entry<'c>(&self, claim: &'c StudyClaim) -> Entry<'c> {
        let judged = self.judge(claim);
        let shown = |value: f64| shown(claim, value);
        let interval = judged.found.and_then(|found| found.interval);
        Entry {
            id: &claim.id,
            title: &claim.title,
            paper: &claim.expected,
            ours: judged.found.map_or_else(String::new, |found| shown(found.mean)),
            interval: interval.map(|ends| format!("{} to {}", shown(ends.low), shown(ends.high))),
            verdict: judged.verdict,
            why: self.why(claim, &judged),
        }
    }

    fn label(&self, variant: &str) -> String {
        let found = self.study.variant(variant);
        visible(found.map_or(variant, |found| found.label.as_str()))
    }

    /// The rule, each seed's number, and any doubt.
    fn why(&self, claim: &StudyClaim, judged: &Judged) -> String {
        let what = match (&claim.against, claim.by) {
            (Some(against), Some(Compared::Ratio)) => {
                format!("{} over {}", self.label(&claim.of), self.label(against))
            }
            (Some(against), _) => format!("{} less {}", self.label(&claim.of), self.label(against)),
            _ => self.label(&claim.of),
        };
        let weakly =
            claim.weakly.map_or(String::new(), |limit| format!(", partly {}", limit.in_words()));
        let mut why = format!(
            "{}, {what}: reproduced {}{weakly}.",
            claim.measure.label(),
            Limit::in_words(claim.holds)
        );
        if judged.values.is_empty() {
            return why + " No seed has both runs.";
        }
        let each: Vec<String> = judged.values.iter().map(|&value| shown(claim, value)).collect();
        why += &format!(" By seed: {}.", each.join(", "));
        if judged.beyond > 0 {
            why += &format!(
                " Of {} of them it did not come within the run, whose end stands in its place: a bound.",
                judged.beyond
            );
        }
        if judged.values.len() == 1 {
            why += " One seed tells nothing of how far another would differ.";
        } else if !judged.decided {
            why += &format!(
                " Inside the noise: the {} interval over seeds reaches across a limit.",
                percent(LEVEL)
            );
        }
        why
    }
}

fn shown(claim: &StudyClaim, value: f64) -> String {
    match (claim.measure, claim.by) {
        (StudyMeasure::TimeToHalf, None | Some(Compared::Difference)) => tokens(value),
        _ => number(value),
    }
}

/// A measure over training: tokens and values, one a snapshot.
pub(crate) fn curve(measure: StudyMeasure, run: &Run) -> Vec<(f64, f64)> {
    let heads = |of: &dyn Fn(&crate::HeadsPoint) -> f64| {
        run.heads.iter().map(|point| (point.tokens as f64, of(point))).collect()
    };
    let best = |each: &mut dyn Iterator<Item = f64>| each.fold(f64::NEG_INFINITY, f64::max);
    let copies = |of: &dyn Fn(&induction_records::CopyRow) -> f64| {
        run.copies.iter().map(|row| (row.tokens as f64, of(row))).collect()
    };
    let mean = |sums: &[f64], counts: &[u32]| {
        sums.iter().sum::<f64>() / counts.iter().map(|&n| f64::from(n)).sum::<f64>()
    };
    match measure {
        StudyMeasure::TimeToHalf => Vec::new(),
        StudyMeasure::PrefixMatching => {
            heads(&|point| best(&mut point.rows.iter().map(|head| head.prefix_matching)))
        }
        StudyMeasure::PreviousToken => {
            heads(&|point| best(&mut point.rows.iter().map(|head| head.previous_token)))
        }
        StudyMeasure::InductionHeads => heads(&|point| {
            let above = |head: &&crate::HeadScore| head.prefix_matching > INDUCTION_HEAD_ABOVE;
            point.rows.iter().filter(above).count() as f64
        }),
        StudyMeasure::Icl => {
            run.icl.iter().map(|row| (row.tokens as f64, -row.same_token_score)).collect()
        }
        StudyMeasure::Loss => {
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            run.losses.iter().map(|row| (row.tokens as f64, mean(&row.by_example))).collect()
        }
        StudyMeasure::CopiedLoss => {
            copies(&|row| mean(&row.foretold_by_example, &row.n_foretold_by_example))
        }
        StudyMeasure::OthersLoss => {
            copies(&|row| mean(&row.others_by_example, &row.n_others_by_example))
        }
    }
}

/// The claims as the report's other users know them.
pub(crate) fn as_claims(entries: Vec<Entry<'_>>) -> Vec<Claim> {
    let kept = |text: &str| -> &'static str { Box::leak(text.to_string().into_boxed_str()) };
    let each = entries.into_iter().map(|entry| Claim {
        id: kept(entry.id),
        title: kept(entry.title),
        paper: kept(entry.paper),
        ours: entry.ours,
        interval: entry.interval,
        verdict: entry.verdict,
        probability: None,
        why: entry.why,
        decide: None,
    });
    each.collect()
}
