//! The paper's claims, each with our pass rule and verdict: the one place where results are
//! interpreted.
//!
//! [`RULES`] is the table: ids of paper.md, section 9, and ours. A rule is data: the numbers that
//! decide it, and what each must be. So the same rule judges an experiment, the mean over its
//! seeds, and each of [`DRAWS`] bootstrap draws of both; the share of the draws that agree with a
//! verdict is how sure it is.
//!
//! Evaluation examples are drawn with replacement, the same ones for every snapshot and run; seeds
//! by the t distribution that their number allows (`induction_metrics::seeds`).

mod ablations;
mod change;
mod controls;
mod heads;
pub(crate) mod limits;
pub(crate) mod models;
mod revision;
mod rule;
mod rules;
mod series;

use std::borrow::Cow;

use induction_metrics::{Interval, SeedDraws, mean_over_seeds, percentile_interval};
use rayon::prelude::*;
use serde::Serialize;

use self::rule::{Bound, Judge, RunRule, Test};
use crate::experiment::{Draw, Experiment, TWO, Trained, Variant, experiments};
use crate::load::{Run, Scan};
use crate::text::{number, percent, tokens};

pub(crate) use limits::INDUCTION_HEAD_ABOVE;
pub use revision::revision;
pub use rule::Rule;
pub use rules::RULES;

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Our pass rule holds.
    Reproduced,
    /// The weaker rule holds.
    Partly,
    /// Neither holds.
    Not,
    /// A run that the claim needs is not there.
    OutOfReach,
}

impl Verdict {
    /// The word used in `claims.json`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reproduced => "reproduced",
            Self::Partly => "partly",
            Self::Not => "not",
            Self::OutOfReach => "out-of-reach",
        }
    }

    /// A mark whose shape alone tells the verdicts apart.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Reproduced => "●",
            Self::Partly => "◐",
            Self::Not => "○",
            Self::OutOfReach => "–",
        }
    }

    /// For sentences: "not reproduced" rather than "not".
    pub(crate) fn phrase(self) -> &'static str {
        match self {
            Self::Reproduced => "reproduced",
            Self::Partly => "partly reproduced",
            Self::Not => "not reproduced",
            Self::OutOfReach => "out of reach",
        }
    }
}

/// A claim with our result: an entry of `claims.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Claim {
    /// As in paper.md, section 9, or ours, or a study's.
    pub id: Cow<'static, str>,
    /// The claim in a few words.
    pub title: Cow<'static, str>,
    /// What the paper reports; of a study's claim, what is expected.
    pub paper: Cow<'static, str>,
    /// What we measured; empty if nothing could be.
    pub ours: String,
    /// 95 % bootstrap intervals over evaluation examples (and seeds, where there are several; over
    /// models and their heads where all heads are pooled) of the numbers that decide.
    pub interval: Option<String>,
    /// The verdict under our rule.
    pub verdict: Verdict,
    /// The share of the bootstrap draws that give this verdict; `None` where nothing was drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Why, with the limits that decided and any doubt.
    pub why: String,
    /// An experiment that would decide it; for what is not reproduced, or inside the noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decide: Option<&'static str>,
}

/// Bootstrap resamples behind each interval.
const DRAWS: u64 = 1000;
/// An interval holds this share of the draws.
const LEVEL: f64 = 0.95;
/// A verdict is decided if this share of the draws agrees with it.
pub(crate) const DECIDED_FROM: f64 = 0.95;
/// Seed of the draws of seeds.
const SEEDS: u64 = 2;

/// Judges every claim from measured runs, and those about trained models from scans of them.
///
/// The verdict is that of the mean over seeds, where a claim's runs were trained with several; the
/// experiment that leads is chosen by its specs. Of several scanned models the largest decides, of
/// a series its last; never a scan on some of the tokens alone.
pub fn claims(runs: &[Run], scans: &[Scan]) -> Vec<Claim> {
    judge(&experiments(runs), &models::last_of_each(scans))
}

pub(crate) fn judge(experiments: &[Experiment<'_>], scans: &[&Scan]) -> Vec<Claim> {
    let mut judged: Vec<Option<Judged<'_>>> =
        RULES.iter().map(|rule| Judged::of(rule, experiments)).collect();
    draw(experiments, &mut judged);
    let each = RULES.iter().zip(&judged).map(|(rule, judged)| match (rule.judge, judged) {
        (Judge::Scan(judge), _) => models::judge_one(rule, judge, scans),
        (Judge::Runs(_) | Judge::Pooled(_), Some(judged)) => judged.claim(rule),
        (Judge::Runs(run_rule) | Judge::Pooled(run_rule), None) => {
            let why = experiments.first().map_or_else(
                || missing(TWO),
                |lead| (run_rule.needs)(lead).err().unwrap_or_default(),
            );
            claim(rule, Finding::new(Verdict::OutOfReach, String::new(), why), None, String::new())
        }
    });
    each.collect()
}

/// A rule about our runs, applied to the experiments that can decide it: one a seed.
struct Judged<'c> {
    run_rule: RunRule,
    /// The experiments that can decide it, the leading one first.
    experiments: Vec<&'c Experiment<'c>>,
    /// Where they stand among all.
    places: Vec<usize>,
    /// The numbers of each, in the order of the tests.
    values: Vec<Vec<Option<f64>>>,
    /// The numbers' means over seeds.
    mean: Vec<Option<f64>>,
    /// The same of each bootstrap draw.
    draws: Vec<Vec<Option<f64>>>,
}

impl<'c> Judged<'c> {
    fn of(rule: &Rule, experiments: &'c [Experiment<'c>]) -> Option<Self> {
        let (run_rule, experiments) = match rule.judge {
            Judge::Runs(run_rule) => (run_rule, experiments),
            Judge::Pooled(run_rule) => (run_rule, experiments.get(..1)?),
            Judge::Scan(_) => return None,
        };
        let able = experiments
            .iter()
            .enumerate()
            .filter(|(_, experiment)| (run_rule.needs)(experiment).is_ok());
        // Where the leading experiment cannot decide, another seed does not speak for it.
        let (places, experiments): (Vec<usize>, Vec<&Experiment<'_>>) = able.unzip();
        if places.first() != Some(&0) {
            return None;
        }
        let values: Vec<_> =
            experiments.iter().map(|experiment| run_rule.values(experiment)).collect();
        let column =
            |k: usize| values.iter().map(|values: &Vec<Option<f64>>| values[k]).collect::<Vec<_>>();
        let mean = (0..run_rule.tests.len()).map(|k| mean_over_seeds(&column(k))).collect();
        Some(Self { run_rule, experiments, places, values, mean, draws: Vec::new() })
    }

    fn claim(&self, rule: &Rule) -> Claim {
        let verdict = self.run_rule.verdict(&self.mean);
        let agree =
            self.draws.iter().filter(|values| self.run_rule.verdict(values) == verdict).count();
        let probability = (!self.draws.is_empty()).then(|| agree as f64 / self.draws.len() as f64);
        let intervals: Vec<Option<Interval>> =
            (0..self.run_rule.tests.len()).map(|k| self.interval(k)).collect();
        let lead = self.experiments[0];
        let mut finding = Finding::new(verdict, self.show(&self.mean), (self.run_rule.why)(lead));
        match probability {
            Some(share) if share < DECIDED_FROM => {
                finding.inside_noise = true;
                finding.notes.push(format!(
                    "The verdict is inside the noise: only {} of the draws agree with it (decided from {}).{}",
                    percent(share),
                    percent(DECIDED_FROM),
                    self.crossed(&intervals)
                ));
            }
            Some(share) => finding
                .notes
                .push(format!("{} of the draws agree with this verdict.", percent(share))),
            None => finding
                .notes
                .push("One evaluation example: how large the noise is is unknown.".to_string()),
        }
        finding.notes.extend(lead.trained().filter_map(unfinished));
        finding.notes.extend(reread(lead));
        let seeds = self.seeds(rule);
        let interval = show_intervals(self.run_rule.tests, &intervals);
        Claim { probability, ..claim(rule, finding, interval, seeds) }
    }

    /// The 95 % interval of a number; none where the experiment itself lacks it, or most draws do.
    fn interval(&self, k: usize) -> Option<Interval> {
        self.mean[k]?;
        let values: Vec<f64> = self.draws.iter().filter_map(|values| values[k]).collect();
        if values.len() * 2 <= self.draws.len() {
            return None;
        }
        percentile_interval(&values, LEVEL).ok().flatten()
    }

    /// Which limits the intervals reach across.
    fn crossed(&self, intervals: &[Option<Interval>]) -> String {
        let each = self.run_rule.tests.iter().zip(intervals).flat_map(|(test, interval)| {
            let bounds =
                [Some(test.holds), test.weakly].into_iter().flatten().flat_map(Bound::limits);
            let inside =
                move |limit: &f64| interval.is_some_and(|i| i.low < *limit && *limit < i.high);
            bounds.filter(inside).map(|limit| test.unit.show(limit))
        });
        match each.collect::<Vec<_>>().as_slice() {
            [] => String::new(),
            limits => {
                format!(" The 95 % interval reaches across the limit of {}.", limits.join(", of "))
            }
        }
    }

    fn show(&self, values: &[Option<f64>]) -> String {
        let tests = self.run_rule.tests;
        let shown = tests.iter().zip(values).map(|(test, value)| {
            let value = value.map_or("none".to_string(), |value| test.unit.show(value));
            if tests.len() == 1 { value } else { format!("{} {value}", test.name) }
        });
        shown.collect::<Vec<_>>().join("; ")
    }

    fn seeds(&self, rule: &Rule) -> String {
        if matches!(rule.judge, Judge::Pooled(_)) {
            return " Heads of all seeds are taken together.".to_string();
        }
        if self.values.len() == 1 {
            return " One seed: how far another would differ is unknown.".to_string();
        }
        let one = |(experiment, values): (&&Experiment<'_>, &Vec<Option<f64>>)| {
            format!(
                "seed {}: {}, {}",
                experiment.seed,
                self.show(values),
                self.run_rule.verdict(values).phrase()
            )
        };
        let each: Vec<String> = self.experiments.iter().zip(&self.values).map(one).collect();
        format!(
            " The numbers are means over {} seeds; the sentences are about the first. By seed: {}.",
            each.len(),
            each.join("; ")
        )
    }
}

/// Takes every number again from [`DRAWS`] bootstrap draws: of examples within each seed, and of
/// seeds.
fn draw(experiments: &[Experiment<'_>], judged: &mut [Option<Judged<'_>>]) {
    if !experiments.first().is_some_and(Experiment::has_examples) {
        return;
    }
    // [rule][seed][test] of one draw.
    let one = |index: u64| -> Vec<Vec<Vec<Option<f64>>>> {
        let draw = Draw::new(index);
        let drawn: Vec<Experiment<'_>> =
            experiments.iter().map(|experiment| experiment.drawn(&draw)).collect();
        let of_rule = |judged: &Option<Judged<'_>>| match judged {
            Some(judged) => {
                judged.places.iter().map(|&place| judged.run_rule.values(&drawn[place])).collect()
            }
            None => Vec::new(),
        };
        judged.iter().map(of_rule).collect()
    };
    let all: Vec<_> = (0..DRAWS).into_par_iter().map(one).collect();
    for (rule, judged) in judged.iter_mut().enumerate() {
        let Some(judged) = judged else { continue };
        let seeds = SeedDraws::new(SEEDS, all.len(), judged.values.len());
        let column = |values: &[Vec<Option<f64>>], k: usize| {
            values.iter().map(|values| values[k]).collect::<Vec<_>>()
        };
        let columns: Vec<Vec<Option<f64>>> = (0..judged.run_rule.tests.len())
            .map(|k| {
                let drawn: Vec<Vec<Option<f64>>> =
                    all.iter().map(|draw| column(&draw[rule], k)).collect();
                seeds.means(&column(&judged.values, k), &drawn)
            })
            .collect();
        judged.draws = (0..all.len())
            .map(|draw| columns.iter().map(|column| column[draw]).collect())
            .collect();
    }
}

/// "0.10 to 0.20 nats", each with its name where there are several.
fn show_intervals(tests: &[Test], intervals: &[Option<Interval>]) -> Option<String> {
    let shown: Vec<String> = tests
        .iter()
        .zip(intervals)
        .filter_map(|(test, interval)| {
            let text = test.unit.show_interval(interval.as_ref()?);
            Some(if tests.len() == 1 { text } else { format!("{} {text}", test.name) })
        })
        .collect();
    (!shown.is_empty()).then(|| shown.join("; "))
}

fn claim(rule: &Rule, finding: Finding, interval: Option<String>, seeds: String) -> Claim {
    let Finding { verdict, ours, why, notes, inside_noise, .. } = finding;
    let notes: String = notes.iter().map(|note| format!(" {note}")).collect();
    let why = format!("{why}{notes}{seeds}");
    let decide = (verdict != Verdict::Reproduced || inside_noise).then_some(rule.decide);
    let [id, title, paper] = [rule.id, rule.title, rule.paper].map(Cow::Borrowed);
    Claim { id, title, paper, ours, interval, verdict, probability: None, why, decide }
}

/// What one experiment says of one claim.
struct Finding {
    verdict: Verdict,
    ours: String,
    why: String,
    notes: Vec<String>,
    /// An interval reaches across a limit.
    inside_noise: bool,
    /// Where it does not come from resamples.
    interval: Option<String>,
}

impl Finding {
    fn new(verdict: Verdict, ours: String, why: String) -> Self {
        Self { verdict, ours, why, notes: Vec::new(), inside_noise: false, interval: None }
    }

    fn note_if(mut self, condition: bool, note: impl FnOnce() -> String) -> Self {
        if condition {
            self.notes.push(note());
        }
        self
    }
}

#[derive(Debug, Clone, Copy)]
enum Unit {
    Nats,
    Share,
    /// A share of the 2-layer run's amount of ICL.
    OfTwo,
    Degrees,
    /// Nats an e-fold of the context index.
    Slope,
    Plain,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Nats => format!("{} nats", number(value)),
            Self::Share => percent(value),
            Self::OfTwo => format!("{} of 2 layers' ICL", percent(value)),
            Self::Degrees => format!("{value:.0} degrees"),
            Self::Slope => format!("{value:.3} nats an e-fold"),
            Self::Plain => number(value),
        }
    }

    /// A limit as a rule's words have it, without a unit that they may put elsewhere.
    fn limit(self, value: f64) -> String {
        match self {
            Self::Share | Self::OfTwo => percent(value),
            _ => format!("{value}"),
        }
    }

    fn show_interval(self, interval: &Interval) -> String {
        let Interval { low, high } = *interval;
        match self {
            // Both ends to the same digits; adding 0 turns -0 into 0.
            Self::Nats => format!("{:.3} to {:.3} nats", low + 0.0, high + 0.0),
            Self::Share | Self::OfTwo => format!("{} to {}", percent(low), self.show(high)),
            Self::Degrees => format!("{low:.0} to {}", self.show(high)),
            Self::Slope => format!("{low:.3} to {}", self.show(high)),
            Self::Plain => format!("{:.2} to {:.2}", low + 0.0, high + 0.0),
        }
    }
}

/// The verdict of a rule with a strong and a weak condition.
fn graded(reproduced: bool, partly: bool) -> Verdict {
    match (reproduced, partly) {
        (true, _) => Verdict::Reproduced,
        (false, true) => Verdict::Partly,
        (false, false) => Verdict::Not,
    }
}

/// Why a claim cannot be judged without a run.
fn missing(part: Variant) -> String {
    let family = if part.mlp { "" } else { "attention-only " };
    format!("The {family}{} on this data is missing.", part.run())
}

/// What a rule needs that is about these parts.
fn need(experiment: &Experiment<'_>, parts: &[Variant]) -> Result<(), String> {
    match parts.iter().find(|part| experiment.model(**part).is_none()) {
        Some(part) => Err(missing(*part)),
        None => Ok(()),
    }
}

/// A sentence about why a run has no phase-change window.
fn no_window(model: &Trained<'_>, reason: &str) -> String {
    format!("The {} shows no phase-change window: {reason}.", model.variant.run())
}

fn unfinished(model: &Trained<'_>) -> Option<String> {
    let (seen, planned) = (model.run.measured_tokens(), model.run.spec.train.tokens);
    // The last snapshot can fall short of the budget by the remainder of one step.
    (seen as f64 + model.step_tokens() < planned as f64).then(|| {
        let [seen, planned] = [seen, planned].map(|count| tokens(count as f64));
        format!("The {} is measured up to {seen} of {planned} tokens only.", model.variant.run())
    })
}

/// That the text was read more than once, if it was: from then on curves show memory as well.
fn reread(experiment: &Experiment<'_>) -> Option<String> {
    let most = experiment.trained().filter_map(|model| model.run.passes).fold(0.0, f64::max);
    (most > 1.0).then(|| {
        format!(
            "The text was read {most:.1} times: from the second pass on, models meet what they have learned already."
        )
    })
}
