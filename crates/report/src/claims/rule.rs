//! What a rule is made of: the numbers that decide it, and how they make a verdict.

use super::{Finding, Unit, Verdict};
use crate::experiment::Experiment;
use crate::load::Scan;

/// A row of the table of claims.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Rule {
    /// As in paper.md, section 9, or ours.
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
    pub(super) judge: Judge,
}

impl Rule {
    /// The limits of the numbers that decide it, in words: "75 %".
    pub fn limits(&self) -> Vec<String> {
        let tests = match &self.judge {
            Judge::Runs(experiment) | Judge::Pooled(experiment) => experiment.tests,
            Judge::Scan(_) => &[],
        };
        let of = |test: &Test| {
            let bounds = [Some(test.holds), test.weakly].into_iter().flatten();
            bounds.flat_map(Bound::limits).map(|limit| test.unit.limit(limit)).collect::<Vec<_>>()
        };
        tests.iter().flat_map(of).collect()
    }

    /// Whether it is judged from trained models that were scanned.
    pub(crate) fn is_about_models(&self) -> bool {
        matches!(self.judge, Judge::Scan(_))
    }
}

/// What a claim is judged from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Judge {
    /// Our runs.
    Runs(RunRule),
    /// Our runs of all seeds at once: the leading experiment holds the others' heads.
    Pooled(RunRule),
    /// A trained model.
    Scan(fn(&Scan) -> Finding),
}

/// How our runs decide a claim.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunRule {
    /// Why these runs cannot decide it; nothing if they can.
    pub(super) needs: fn(&Experiment<'_>) -> Result<(), String>,
    /// The numbers that decide. All of them hold: reproduced.
    pub(super) tests: &'static [Test],
    /// What is partly reproduced.
    pub(super) partly: Partly,
    /// What was seen, in sentences.
    pub(super) why: fn(&Experiment<'_>) -> String,
}

/// When a claim is partly reproduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Partly {
    /// The rule holds or it does not.
    Never,
    /// If one of the numbers holds.
    Any,
    /// If every number holds weakly.
    Weakly,
}

/// A number that decides a claim. It is read off an experiment, its bootstrap resamples and its
/// other seeds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Test {
    /// Names it where a rule has several.
    pub(super) name: &'static str,
    pub(super) unit: Unit,
    /// `None` where the experiment has no such number: no window, a missing run. It then does not
    /// hold.
    pub(super) value: Value,
    pub(super) holds: Bound,
    /// Where a weaker bound makes it partly; else it must hold for that, too.
    pub(super) weakly: Option<Bound>,
}

pub(super) type Value = fn(&Experiment<'_>) -> Option<f64>;

/// A number that must hold.
pub(super) const fn test(name: &'static str, unit: Unit, value: Value, holds: Bound) -> Test {
    Test { name, unit, value, holds, weakly: None }
}

/// A number with a weaker bound, which makes a claim partly reproduced.
pub(super) const fn graded(
    name: &'static str,
    unit: Unit,
    value: Value,
    holds: Bound,
    weakly: Bound,
) -> Test {
    Test { name, unit, value, holds, weakly: Some(weakly) }
}

/// What a number must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bound {
    Above(f64),
    AtLeast(f64),
    Below(f64),
    AtMost(f64),
    /// From the first to the second.
    Within(f64, f64),
    /// Told, and deciding nothing.
    Told,
}

impl Bound {
    fn contains(self, value: f64) -> bool {
        match self {
            Self::Above(limit) => value > limit,
            Self::AtLeast(limit) => value >= limit,
            Self::Below(limit) => value < limit,
            Self::AtMost(limit) => value <= limit,
            Self::Within(low, high) => (low..=high).contains(&value),
            Self::Told => true,
        }
    }

    pub(super) fn limits(self) -> Vec<f64> {
        match self {
            Self::Above(limit)
            | Self::AtLeast(limit)
            | Self::Below(limit)
            | Self::AtMost(limit) => vec![limit],
            Self::Within(low, high) => vec![low, high],
            Self::Told => Vec::new(),
        }
    }
}

impl RunRule {
    /// The numbers of one experiment, in the order of the tests.
    pub(super) fn values(&self, experiment: &Experiment<'_>) -> Vec<Option<f64>> {
        self.tests
            .iter()
            .map(|test| (test.value)(experiment).filter(|value| value.is_finite()))
            .collect()
    }

    /// What the numbers say.
    pub(super) fn verdict(&self, values: &[Option<f64>]) -> Verdict {
        let deciding =
            || self.tests.iter().zip(values).filter(|(test, _)| test.holds != Bound::Told);
        let holds = |(test, value): (&Test, &Option<f64>)| {
            value.is_some_and(|value| test.holds.contains(value))
        };
        let weakly = |(test, value): (&Test, &Option<f64>)| {
            value.is_some_and(|value| {
                test.holds.contains(value) || test.weakly.is_some_and(|bound| bound.contains(value))
            })
        };
        let partly = match self.partly {
            Partly::Never => false,
            Partly::Any => deciding().any(holds),
            Partly::Weakly => deciding().all(weakly),
        };
        match (deciding().all(holds), partly) {
            (true, _) => Verdict::Reproduced,
            (false, true) => Verdict::Partly,
            (false, false) => Verdict::Not,
        }
    }
}
