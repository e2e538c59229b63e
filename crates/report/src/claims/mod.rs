//! The paper's claims, each with our pass rule and verdict: the one place where results are interpreted.
//!
//! [`RULES`] is the table: ids of paper.md, section 9; the numbers that decide stand directly above it, and nowhere else.
//! The window and half times come from `induction_metrics`.
//!
//! A rule names the quantities that decide it. Each is a number read off an experiment, and read off [`DRAWS`] bootstrap
//! resamples of it for its 95 % interval.

mod ablations;
mod curves;
mod heads;
pub(crate) mod models;
mod rules;
mod series;

use induction_metrics::{Interval, percentile_interval};
use serde::Serialize;

use crate::cast::{Cast, Part, Player, TWO, casts};
use crate::load::{Run, Scan};
use crate::text::{number, percent, tokens};

pub use rules::RULES;
pub(crate) use rules::{INDUCTION_HEAD_ABOVE, PREVIOUS_TOKEN_HEAD_ABOVE};

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
    /// As in paper.md, section 9, or ours.
    pub id: &'static str,
    /// The claim in a few words.
    pub title: &'static str,
    /// What the paper reports.
    pub paper: &'static str,
    /// What we measured; empty if nothing could be.
    pub ours: String,
    /// 95 % bootstrap intervals over evaluation examples (and seeds, where there are several; over heads for Q15 and Q16)
    /// of the numbers that decide.
    pub interval: Option<String>,
    /// The verdict under our rule.
    pub verdict: Verdict,
    /// Why, with the limits that decided and any doubt.
    pub why: String,
    /// An experiment that would decide it; for what is not reproduced, or inside the noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decide: Option<&'static str>,
}

/// A row of the table of claims.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Rule {
    /// As in paper.md, section 9.
    pub id: &'static str,
    /// The argument of the paper that rests on it, 1 to 6.
    pub argument: u8,
    /// The figures that it is seen in.
    pub figures: &'static [&'static str],
    /// The claim in a few words.
    pub title: &'static str,
    /// What the paper reports.
    pub paper: &'static str,
    /// Our pass rule in words.
    pub rule: &'static str,
    /// An experiment that would decide it, where ours does not reproduce it.
    pub decide: &'static str,
    judge: Judge,
    quantities: &'static [Quantity],
}

impl Rule {
    /// The limits of the numbers that decide it, in words: "75 %".
    pub fn limits(&self) -> Vec<String> {
        let of =
            |quantity: &Quantity| quantity.limits.iter().map(|&limit| quantity.unit.limit(limit)).collect::<Vec<_>>();
        self.quantities.iter().flat_map(of).collect()
    }

    /// Whether it is judged from trained models that were scanned.
    pub(crate) fn is_about_models(&self) -> bool {
        matches!(self.judge, Judge::Scan(_))
    }
}

/// What a claim is judged from.
#[derive(Debug, Clone, Copy)]
enum Judge {
    /// Our runs.
    Runs(fn(&Cast<'_>) -> Finding),
    /// A trained model.
    Scan(fn(&Scan) -> Finding),
}

/// A number that decides a claim.
#[derive(Debug, Clone, Copy)]
struct Quantity {
    /// Names it where a rule has several.
    name: &'static str,
    unit: Unit,
    /// The rule's limits of it.
    limits: &'static [f64],
    /// `None` where the experiment has no such number: no window, a missing run.
    value: fn(&Cast<'_>) -> Option<f64>,
}

/// Bootstrap resamples behind each interval.
const DRAWS: u64 = 1000;
/// An interval holds this share of the draws.
const LEVEL: f64 = 0.95;

/// Judges every claim from measured runs, and those about trained models from scans of them.
///
/// The verdict comes from one experiment, chosen by its specs; the same rule applied to further seeds is told in `why`. Of
/// several scanned models the largest decides, of a series its last; never a scan on some of the tokens alone.
pub fn claims(runs: &[Run], scans: &[Scan]) -> Vec<Claim> {
    judge(&casts(runs), &models::last_of_each(scans))
}

pub(crate) fn judge(casts: &[Cast<'_>], scans: &[&Scan]) -> Vec<Claim> {
    let intervals = intervals(casts);
    let each = RULES.iter().zip(intervals).map(|(rule, intervals)| match rule.judge {
        Judge::Runs(judge) => judge_one(rule, judge, casts, &intervals),
        Judge::Scan(judge) => models::judge_one(rule, judge, scans),
    });
    each.collect()
}

/// The interval of each quantity of each rule; of several seeds, every draw takes the next.
fn intervals(casts: &[Cast<'_>]) -> Vec<Vec<Option<Interval>>> {
    let mut values: Vec<Vec<Vec<f64>>> = RULES.iter().map(|rule| vec![Vec::new(); rule.quantities.len()]).collect();
    if casts.first().is_some_and(Cast::has_examples) {
        for (draw, cast) in (0..DRAWS).zip(casts.iter().cycle()) {
            let drawn = cast.drawn(draw);
            for (rule, values) in RULES.iter().zip(&mut values) {
                for (quantity, values) in rule.quantities.iter().zip(values) {
                    values.extend((quantity.value)(&drawn).filter(|value| value.is_finite()));
                }
            }
        }
    }
    let interval = |values: Vec<f64>| {
        // A quantity that most draws lack has no interval that means anything.
        let enough = values.len() as u64 * 2 > DRAWS;
        enough.then(|| percentile_interval(&values, LEVEL).ok().flatten()).flatten()
    };
    values.into_iter().map(|rule| rule.into_iter().map(interval).collect()).collect()
}

fn judge_one(
    rule: &Rule,
    judge: fn(&Cast<'_>) -> Finding,
    casts: &[Cast<'_>],
    intervals: &[Option<Interval>],
) -> Claim {
    let Some((lead, others)) = casts.split_first() else {
        return claim(rule, missing(TWO), None, String::new());
    };
    // A draw can have what the experiment itself lacks, a window for one; its interval would be of nothing.
    let has = |quantity: &Quantity| (quantity.value)(lead).is_some_and(f64::is_finite);
    let intervals: Vec<Option<Interval>> =
        rule.quantities.iter().zip(intervals).map(|(quantity, interval)| interval.filter(|_| has(quantity))).collect();
    let mut finding = judge(lead);
    let others: Vec<(u64, Finding)> = others
        .iter()
        .map(|cast| (cast.seed, judge(cast)))
        .filter(|(_, other)| other.verdict != Verdict::OutOfReach)
        .collect();
    let mut seeds = String::new();
    let mut interval = None;
    if finding.verdict != Verdict::OutOfReach {
        let crossed: Vec<String> = rule
            .quantities
            .iter()
            .zip(&intervals)
            .filter_map(|(quantity, interval)| {
                let interval = interval.as_ref()?;
                let limit = quantity.limits.iter().find(|limit| interval.low < **limit && **limit < interval.high)?;
                Some(quantity.unit.show(*limit))
            })
            .collect();
        finding.inside_noise = !crossed.is_empty();
        finding.notes.extend(crossed.into_iter().map(|limit| {
            format!("The 95 % interval reaches across the limit of {limit}: the verdict is inside the noise.")
        }));
        if !lead.has_examples() {
            finding.notes.push("One evaluation example: how large the noise is is unknown.".to_string());
        }
        interval = show_intervals(rule.quantities, &intervals);
        finding.notes.extend(lead.players().filter_map(unfinished));
        seeds = match others.as_slice() {
            [] => " One seed: how far another would differ is unknown.".to_string(),
            others => {
                let one =
                    |(seed, other): &(u64, Finding)| format!("seed {seed}: {}, {}", other.ours, other.verdict.phrase());
                format!(" Other seeds, same rule: {}.", others.iter().map(one).collect::<Vec<_>>().join("; "))
            }
        };
    }
    claim(rule, finding, interval, seeds)
}

/// "0.10 to 0.20 nats", each with its name where there are several.
fn show_intervals(quantities: &[Quantity], intervals: &[Option<Interval>]) -> Option<String> {
    let shown: Vec<String> = quantities
        .iter()
        .zip(intervals)
        .filter_map(|(quantity, interval)| {
            let text = quantity.unit.show_interval(interval.as_ref()?);
            Some(if quantities.len() == 1 { text } else { format!("{} {text}", quantity.name) })
        })
        .collect();
    (!shown.is_empty()).then(|| shown.join("; "))
}

fn claim(rule: &Rule, finding: Finding, interval: Option<String>, seeds: String) -> Claim {
    let Finding { verdict, ours, why, notes, inside_noise, .. } = finding;
    let notes: String = notes.iter().map(|note| format!(" {note}")).collect();
    let why = format!("{why}{notes}{seeds}");
    let decide = (verdict != Verdict::Reproduced || inside_noise).then_some(rule.decide);
    Claim { id: rule.id, title: rule.title, paper: rule.paper, ours, interval, verdict, why, decide }
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
    Tokens,
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
            Self::Tokens => format!("{} tokens", tokens(value)),
            Self::Degrees => format!("{value:.0} degrees"),
            Self::Slope => format!("{value:.3} nats an e-fold"),
            Self::Plain => number(value),
        }
    }

    /// A limit as a rule's words have it, without a unit that they may put elsewhere.
    fn limit(self, value: f64) -> String {
        match self {
            Self::Share | Self::OfTwo => percent(value),
            Self::Tokens => tokens(value),
            _ => format!("{value}"),
        }
    }

    fn show_interval(self, interval: &Interval) -> String {
        let Interval { low, high } = *interval;
        match self {
            // Both ends to the same digits; adding 0 turns -0 into 0.
            Self::Nats => format!("{:.3} to {:.3} nats", low + 0.0, high + 0.0),
            Self::Share | Self::OfTwo => format!("{} to {}", percent(low), self.show(high)),
            Self::Tokens => format!("{} to {}", tokens(low), self.show(high)),
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

fn missing(part: Part) -> Finding {
    let family = if part.mlp { "" } else { "attention-only " };
    let why = format!("The {family}{} on this data is missing.", part.run());
    Finding::new(Verdict::OutOfReach, String::new(), why)
}

fn no_window(part: Part, reason: &str) -> Finding {
    let why = format!("The {} shows no phase-change window: {reason}.", part.run());
    Finding::new(Verdict::Not, "no window".to_string(), why)
}

fn unfinished(player: &Player<'_>) -> Option<String> {
    let (seen, planned) = (player.run.measured_tokens(), player.run.spec.tokens);
    // The last snapshot can fall short of the budget by the remainder of one step.
    (seen as f64 + player.step_tokens() < planned as f64).then(|| {
        let [seen, planned] = [seen, planned].map(|count| tokens(count as f64));
        format!("The {} is measured up to {seen} of {planned} tokens only.", player.part.run())
    })
}

/// The player of a part, or an early `out-of-reach`.
macro_rules! need {
    ($cast:expr, $part:expr) => {
        match $cast.player($part) {
            Some(player) => player,
            None => return $crate::claims::missing($part),
        }
    };
}

/// A player's window, or an early `not`.
macro_rules! window {
    ($player:expr) => {
        match &$player.window {
            Ok(window) => window,
            Err(reason) => return $crate::claims::no_window($player.part, reason),
        }
    };
}

pub(crate) use {need, window};
