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
use induction_records::{
    Compared, DataSpec, Limit, MeasuredFrom, PlannedRun, RunSpec, Study, StudyClaim, StudyMeasure,
};

use crate::claims::INDUCTION_HEAD_ABOVE;
use crate::text::{number, percent, tokens, visible};
use crate::{Claim, ReportError, Run, Verdict, load_run};

pub(crate) use figures::figures;
pub(crate) use markdown::{markdown, table as numbers};

/// Level of the intervals over seeds.
const LEVEL: f64 = 0.95;

/// A study with the runs that are there.
pub(crate) struct Studied<'a> {
    pub(crate) study: &'a Study,
    /// By variant, in the study's order, and seed.
    runs: Vec<BTreeMap<u64, &'a Run>>,
    pub(crate) absent: Vec<Absent>,
}

/// A run that is planned and has no part in the report.
pub(crate) struct Absent {
    pub(crate) name: String,
    /// As in "NAME is not there".
    pub(crate) why: &'static str,
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

/// Reads the runs of a study, of those in `only` if it is given; and of those that are not there, or
/// not done, or made from another spec, the names and why.
pub(crate) fn load_planned(
    dir: &Path,
    study: &Study,
    only: Option<&[String]>,
) -> Result<(Vec<Run>, Vec<Absent>), ReportError> {
    let (mut runs, mut absent) = (Vec::new(), Vec::new());
    for PlannedRun { spec, .. } in study.manifest()?.runs {
        let folder = dir.join("runs").join(&spec.name);
        let unfinished = !folder.join("measurements").join(MeasuredFrom::FILE).exists();
        let why = if only.is_some_and(|names| !names.contains(&spec.name)) {
            "is not done"
        } else if !folder.is_dir() {
            "is not there"
        } else if unfinished && folder.join("diverged.json").exists() {
            "diverged"
        } else if unfinished {
            "is not done"
        } else {
            let run = load_run(&folder)?;
            if is_planned(&run.spec, &spec) {
                runs.push(run);
                continue;
            }
            "was made from another spec than the study's"
        };
        absent.push(Absent { name: spec.name, why });
    }
    Ok((runs, absent))
}

/// Whether a run was trained as planned; its spec knows its text's hash, too.
fn is_planned(run: &RunSpec, planned: &RunSpec) -> bool {
    let mut planned = planned.clone();
    if let (DataSpec::Corpus { blake3, .. }, DataSpec::Corpus { blake3: found, .. }) =
        (&mut planned.data, &run.data)
    {
        blake3.clone_from(found);
    }
    run.training_hash() == planned.training_hash()
}

impl<'a> Studied<'a> {
    pub(crate) fn new(study: &'a Study, runs: &'a [Run], absent: Vec<Absent>) -> Self {
        let of = |variant: &str| {
            let run = |seed: &u64| {
                let name = Study::run_name(variant, *seed);
                runs.iter().find(|run| run.folder == name).map(|run| (*seed, run))
            };
            study.seeds.iter().filter_map(run).collect()
        };
        let runs = study.variants.iter().map(|variant| of(&variant.name)).collect();
        Self { study, runs, absent }
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
        // What the first variant learns is no measure for other sequences.
        let first = self.of(&self.study.variants[0].name).get(&seed)?;
        if foretold(first) != foretold(run) {
            return None;
        }
        let goal = self.goal(seed)?;
        let (at, amounts): (Vec<f64>, Vec<f64>) = curve(StudyMeasure::Icl, run).into_iter().unzip();
        let found = time_to(&at, &amounts, goal);
        Some(Value { value: found.or(at.last().copied())?, beyond: found.is_none() })
    }

    /// Half of where the first variant's in-context learning ends; nothing unless that is clearly
    /// more than none (three standard errors over examples), and more than there was before training.
    fn goal(&self, seed: u64) -> Option<f64> {
        let first = self.runs[0].get(&seed)?;
        let last = first.icl.last()?;
        let goal = -last.same_token_score / 2.0;
        let begins = -first.icl.first()?.same_token_score;
        let is_some = 2.0 * goal > 3.0 * last.same_token_stderr.unwrap_or(0.0);
        (is_some && goal > begins).then_some(goal)
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

    /// What decides a claim: its number of each seed, or why there is none.
    fn numbers(&self, claim: &StudyClaim) -> Vec<(u64, Result<Value, String>)> {
        let of_variant = |variant: &str, seed: u64| {
            let name = Study::run_name(variant, seed);
            let Some(run) = self.of(variant).get(&seed) else {
                let why = self.absent.iter().find(|absent| absent.name == name);
                return Err(format!("{name} {}", why.map_or("is not there", |absent| absent.why)));
            };
            self.value(claim.measure, seed, run).filter(|found| found.value.is_finite()).ok_or_else(
                || match claim.measure {
                    StudyMeasure::TimeToHalf => format!(
                        "{} ends with no in-context learning to speak of, or is of another text",
                        Study::run_name(&self.study.variants[0].name, seed)
                    ),
                    _ => format!("{name} has no such number"),
                },
            )
        };
        let of_seed = |seed: u64| {
            let own = of_variant(&claim.of, seed)?;
            let Some((against, by)) = claim.against.as_ref().zip(claim.by) else { return Ok(own) };
            let other = of_variant(against, seed)?;
            let value = match by {
                Compared::Ratio if own.value > 0.0 && other.value > 0.0 => own.value / other.value,
                Compared::Share if other.value > 0.0 => own.value / other.value,
                Compared::Ratio | Compared::Share => {
                    let kind = if by == Compared::Ratio { "ratio" } else { "share" };
                    let [own, other] = [own.value, other.value].map(number);
                    return Err(format!("{own} over {other} is no {kind}"));
                }
                Compared::Difference => own.value - other.value,
            };
            Ok(Value { value, beyond: own.beyond || other.beyond })
        };
        self.study.seeds.iter().map(|&seed| (seed, of_seed(seed))).collect()
    }

    /// Judges a claim by the mean over seeds.
    pub(crate) fn judge(&self, claim: &StudyClaim) -> Judged {
        let each = self.numbers(claim);
        let numbers: Vec<Value> = each.iter().filter_map(|(_, found)| found.clone().ok()).collect();
        let lacking: Vec<(u64, String)> =
            each.iter().filter_map(|(seed, found)| Some((*seed, found.clone().err()?))).collect();
        let values: Vec<f64> = numbers.iter().map(|found| found.value).collect();
        // Ratios vary by factors: their logarithms have a mean and an interval.
        let in_logs = claim.by == Some(Compared::Ratio);
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
        // Seeds that lack a number may be just those that would speak against it.
        let found = found.filter(|_| lacking.is_empty());
        let of_mean = found.map_or(Verdict::OutOfReach, |found| verdict(found.mean));
        let decided = found.and_then(|found| found.interval).is_some_and(|ends| {
            [ends.low, ends.high].into_iter().all(|end| verdict(end) == of_mean)
        });
        let beyond = numbers.iter().filter(|found| found.beyond).count();
        let values =
            each.iter().filter_map(|(seed, found)| Some((*seed, found.as_ref().ok()?.value)));
        Judged { verdict: of_mean, found, values: values.collect(), lacking, beyond, decided }
    }
}

/// A claim's verdict and what it rests on.
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    pub(crate) found: Option<OverSeeds>,
    /// One a seed.
    pub(crate) values: Vec<(u64, f64)>,
    /// Seeds without one, and why.
    pub(crate) lacking: Vec<(u64, String)>,
    /// Of how many of them what was waited for did not come, so that they are bounds.
    pub(crate) beyond: usize,
    /// Whether both ends of the interval have the same verdict.
    pub(crate) decided: bool,
}

impl Studied<'_> {
    /// The study's claims with what became of them.
    pub(crate) fn claims(&self) -> Vec<Claim> {
        self.study.claims.iter().map(|claim| self.claim(claim)).collect()
    }

    fn claim(&self, claim: &StudyClaim) -> Claim {
        let judged = self.judge(claim);
        let shown = |value: f64| shown(claim, value);
        let interval = judged.found.and_then(|found| found.interval);
        let [id, title, paper] =
            [&claim.id, &claim.title, &claim.expected].map(|text| text.clone().into());
        Claim {
            id,
            title,
            paper,
            ours: judged.found.map_or_else(String::new, |found| shown(found.mean)),
            interval: interval.map(|ends| format!("{} to {}", shown(ends.low), shown(ends.high))),
            verdict: judged.verdict,
            probability: None,
            why: self.why(claim, &judged),
            decide: None,
        }
    }

    fn label(&self, variant: &str) -> String {
        let found = self.study.variant(variant);
        visible(found.map_or(variant, |found| found.label.as_str()))
    }

    /// Whether a claim compares nats, or when so many of them are won, of variants that have other
    /// sequences to foretell.
    fn units_differ(&self, claim: &StudyClaim) -> bool {
        let of_heads = [
            StudyMeasure::PrefixMatching,
            StudyMeasure::PreviousToken,
            StudyMeasure::InductionHeads,
        ];
        let Some(against) = claim.against.as_ref().filter(|_| !of_heads.contains(&claim.measure))
        else {
            return false;
        };
        let of = |variant: &str| self.of(variant).values().next().map(|run| foretold(run));
        of(&claim.of) != of(against)
    }

    /// The rule, each seed's number, and any doubt.
    fn why(&self, claim: &StudyClaim, judged: &Judged) -> String {
        let what = match (&claim.against, claim.by) {
            (Some(against), Some(Compared::Ratio | Compared::Share)) => {
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
        let each =
            judged.values.iter().map(|&(seed, value)| format!("{seed}: {}", shown(claim, value)));
        let each: Vec<String> = each.collect();
        if !each.is_empty() {
            why += &format!(" By seed: {}.", each.join(", "));
        }
        for (seed, reason) in &judged.lacking {
            why += &format!(" Seed {seed} has no number: {}.", visible(reason));
        }
        if !judged.lacking.is_empty() {
            return why;
        }
        if judged.beyond > 0 {
            why += &format!(
                " Of {} of them it did not come within the run, whose end stands in its place: a bound.",
                judged.beyond
            );
        }
        if self.units_differ(claim) {
            why += " The two are of different texts or vocabularies, where a nat is not worth the same.";
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

/// What a run has to foretell: nats of other sequences are not the same.
fn foretold(run: &Run) -> (&DataSpec, usize, usize) {
    (&run.spec.data, run.spec.model.d_vocab, run.spec.model.n_ctx)
}

fn shown(claim: &StudyClaim, value: f64) -> String {
    match (claim.measure, claim.by) {
        (StudyMeasure::TimeToHalf, None | Some(Compared::Difference)) => tokens(value),
        // Of few seeds an end of an interval may be any factor.
        (_, Some(Compared::Ratio)) if value > 1e3 => "over 1,000".into(),
        (_, Some(Compared::Ratio)) if value < 1e-3 => "below 0.001".into(),
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
    let all: Vec<(f64, f64)> = match measure {
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
    };
    // Where no target is of a kind, its mean loss is no number.
    all.into_iter().filter(|(_, value)| value.is_finite()).collect()
}

/// The study's words on what it asks, on one line.
pub(crate) fn about(study: &Study) -> String {
    visible(&study.about.split_whitespace().collect::<Vec<_>>().join(" "))
}
