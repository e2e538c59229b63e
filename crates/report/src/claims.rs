//! The paper's claims, each with our pass rule and verdict: the one place where results are interpreted.
//!
//! [`RULES`] is the table: ids of paper.md, section 9; the numbers that decide stand directly above it, and nowhere else.
//! They were fixed before the first run and are not tuned. The window and half times come from `induction_metrics`.

use serde::Serialize;

use crate::Run;
use crate::cast::{Cast, ONE, ONE_SMEARED, Part, Player, TWO, TWO_SMEARED, casts};
use crate::text::{number, percent, tokens};

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
    /// As in paper.md, section 9.
    pub id: &'static str,
    /// The claim in a few words.
    pub title: &'static str,
    /// What the paper reports.
    pub paper: &'static str,
    /// What we measured; empty if nothing could be.
    pub ours: String,
    /// 95 % interval over evaluation examples, where the tables hold a standard error.
    pub interval: Option<String>,
    /// The verdict under our rule.
    pub verdict: Verdict,
    /// Why, with the limits that decided and any doubt.
    pub why: String,
}

/// A row of the table of claims.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Rule {
    /// As in paper.md, section 9.
    pub id: &'static str,
    /// The claim in a few words.
    pub title: &'static str,
    /// What the paper reports.
    pub paper: &'static str,
    /// Our pass rule in words.
    pub rule: &'static str,
    judge: fn(&Cast<'_>) -> Finding,
}

const Q1_REPRODUCED_BELOW: f64 = 0.15;
const Q1_PARTLY_BELOW: f64 = 0.25;
/// At least half the paper's 0.4 nats, at most twice.
const Q2_REPRODUCED: [f64; 2] = [0.2, 0.8];
const Q2_PARTLY_ABOVE: f64 = 0.1;
const Q3_REPRODUCED_ABOVE: f64 = 0.75;
const Q3_PARTLY_ABOVE: f64 = 0.5;
const Q4_REPRODUCED_BELOW: f64 = 0.25;
const Q4_PARTLY_BELOW: f64 = 0.5;
const Q5_PREFIX_MATCHING_BELOW: f64 = 0.2;
const Q5_SHARE_BELOW: f64 = 0.5;
const Q9_SHARE_FROM: f64 = 0.75;
/// A head below this is no induction head (paper.md, 11), and when it "formed" means nothing.
const INDUCTION_HEAD_ABOVE: f64 = 0.3;
/// Two-sided 95 % of a normal distribution.
const Z: f64 = 1.96;

/// The claims, in the order of paper.md, section 9.
pub const RULES: [Rule; 7] = [
    Rule {
        id: "Q1",
        title: "Before the phase change there is little in-context learning",
        paper: "under 0.15 nats",
        rule: "2 layers: the amount of ICL at the window's start. Reproduced below 0.15 nats, partly below 0.25.",
        judge: q1,
    },
    Rule {
        id: "Q2",
        title: "After it, in-context learning is at its full strength",
        paper: "about 0.4 nats",
        rule: "2 layers: the amount of ICL at the window's end. Reproduced from 0.2 to 0.8 nats (half to twice the paper's), partly above 0.1.",
        judge: q2,
    },
    Rule {
        id: "Q3",
        title: "The window forms most of the final in-context learning",
        paper: "over 75 %",
        rule: "2 layers: (amount after - amount before) / amount at the last snapshot. Reproduced above 75 %, partly above 50 %.",
        judge: q3,
    },
    Rule {
        id: "Q4",
        title: "The change is abrupt, and no artefact of the schedule",
        paper: "2.5 to 5 of 10 billion tokens (its appendix: 1 to 3), after the warm-up",
        rule: "2 layers: the window's width as a share of the run. Reproduced below 25 % if the window starts after the learning-rate warm-up; partly below 50 %.",
        judge: q4,
    },
    Rule {
        id: "Q5",
        title: "One layer forms no induction heads and learns little in context",
        paper: "no phase change; ICL score about -0.1 throughout",
        rule: "1 layer: every head's prefix matching below 0.2 at every snapshot, and the last amount of ICL below 50 % of 2 layers'. Partly if only one holds.",
        judge: q5,
    },
    Rule {
        id: "Q6",
        title: "Induction heads form in the same window",
        paper: "prefix matching rises to 0.8-0.9 inside the window",
        rule: "2 layers: the half time of the best head's prefix matching lies inside the ICL window; partly within one window's width of it. The head must end above 0.3, where we call it an induction head.",
        judge: q6,
    },
    Rule {
        id: "Q9",
        title: "Smeared keys give one layer induction, and two layers earlier induction",
        paper: "1 layer smeared changes like 2 layers; 2 layers smeared change earlier",
        rule: "1 layer smeared ends with at least 75 % of 2 layers' ICL, and the highest prefix matching reaches half its end earlier in 2 layers smeared than in 2 layers (both ending above 0.3). Partly if only one holds.",
        judge: q9,
    },
];

/// Judges every claim from measured runs.
///
/// The verdict comes from one experiment, chosen by its specs; the same rule applied to further seeds is told in `why`.
pub fn claims(runs: &[Run]) -> Vec<Claim> {
    judge(&casts(runs))
}

pub(crate) fn judge(casts: &[Cast<'_>]) -> Vec<Claim> {
    RULES.iter().map(|rule| judge_one(rule, casts)).collect()
}

fn judge_one(rule: &Rule, casts: &[Cast<'_>]) -> Claim {
    let Some((lead, others)) = casts.split_first() else {
        let finding = missing(TWO);
        return claim(rule, finding, String::new());
    };
    let mut finding = (rule.judge)(lead);
    let others: Vec<(u64, Finding)> = others
        .iter()
        .map(|cast| (cast.seed, (rule.judge)(cast)))
        .filter(|(_, other)| other.verdict != Verdict::OutOfReach)
        .collect();
    let mut seeds = String::new();
    if finding.verdict != Verdict::OutOfReach {
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
    claim(rule, finding, seeds)
}

fn claim(rule: &Rule, finding: Finding, seeds: String) -> Claim {
    let Finding { verdict, ours, interval, why, notes } = finding;
    let notes: String = notes.iter().map(|note| format!(" {note}")).collect();
    let why = format!("{why}{notes}{seeds}");
    Claim {
        id: rule.id,
        title: rule.title,
        paper: rule.paper,
        ours,
        interval: interval.map(|i| i.text()),
        verdict,
        why,
    }
}

/// What one experiment says of one claim.
struct Finding {
    verdict: Verdict,
    ours: String,
    interval: Option<Interval>,
    why: String,
    notes: Vec<String>,
}

impl Finding {
    fn new(verdict: Verdict, ours: String, why: String) -> Self {
        Self { verdict, ours, interval: None, why, notes: Vec::new() }
    }

    /// Adds an interval, and says so where it reaches across a limit of the rule.
    fn within(mut self, interval: Option<Interval>, limits: &[f64]) -> Self {
        let Some(interval) = interval else {
            self.notes
                .push("One evaluation example has no standard error: how large the noise is is unknown.".to_string());
            return self;
        };
        if let Some(limit) = limits.iter().find(|limit| interval.low < **limit && **limit < interval.high) {
            let limit = interval.unit.show(*limit);
            self.notes.push(format!(
                "The 95 % interval reaches across the limit of {limit}: the verdict is inside the noise."
            ));
        }
        self.interval = Some(interval);
        self
    }

    fn note_if(mut self, condition: bool, note: impl FnOnce() -> String) -> Self {
        if condition {
            self.notes.push(note());
        }
        self
    }
}

#[derive(Clone, Copy)]
enum Unit {
    Nats,
    Share,
    /// A share of the 2-layer run's amount of ICL.
    OfTwo,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Nats => format!("{} nats", number(value)),
            Self::Share => percent(value),
            Self::OfTwo => format!("{} of 2 layers' ICL", percent(value)),
        }
    }
}

/// A symmetric 95 % interval.
struct Interval {
    low: f64,
    high: f64,
    unit: Unit,
}

impl Interval {
    fn new(value: f64, stderr: Option<f64>, unit: Unit) -> Option<Self> {
        stderr.map(|stderr| Self { low: value - Z * stderr, high: value + Z * stderr, unit })
    }

    fn text(&self) -> String {
        match self.unit {
            // Both ends to the same digits.
            Unit::Nats => format!("{:.3} to {:.3} nats", self.low + 0.0, self.high + 0.0),
            Unit::Share | Unit::OfTwo => format!("{} to {}", percent(self.low), self.unit.show(self.high)),
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
    let why = format!("The attention-only {} on this data is missing.", part.run());
    Finding::new(Verdict::OutOfReach, String::new(), why)
}

fn no_window(reason: &str) -> Finding {
    let why = format!("The {} shows no phase-change window: {reason}.", TWO.run());
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
            None => return missing($part),
        }
    };
}

/// The 2-layer window, or an early `not`.
macro_rules! window {
    ($player:expr) => {
        match &$player.window {
            Ok(window) => window,
            Err(reason) => return no_window(reason),
        }
    };
}

fn q1(cast: &Cast<'_>) -> Finding {
    let two = need!(cast, TWO);
    let window = window!(two);
    let (amount, stderr) = (-window.score_before, two.icl_near(window.start_tokens).stderr);
    let verdict = graded(amount < Q1_REPRODUCED_BELOW, amount < Q1_PARTLY_BELOW);
    let why = format!(
        "The window starts at {} tokens with {} nats of ICL.",
        tokens(window.start_tokens as f64),
        number(amount)
    );
    Finding::new(verdict, format!("{} nats", number(amount)), why)
        .within(Interval::new(amount, stderr, Unit::Nats), &[Q1_REPRODUCED_BELOW, Q1_PARTLY_BELOW])
}

fn q2(cast: &Cast<'_>) -> Finding {
    let two = need!(cast, TWO);
    let window = window!(two);
    let (amount, stderr) = (-window.score_after, two.icl_near(window.end_tokens).stderr);
    let [low, high] = Q2_REPRODUCED;
    let verdict = graded((low..=high).contains(&amount), amount > Q2_PARTLY_ABOVE);
    let end = -two.last_icl().score;
    let (at, amount_text) = (tokens(window.end_tokens as f64), number(amount));
    let why =
        format!("The window ends at {at} tokens with {amount_text} nats of ICL; the run ends with {}.", number(end));
    Finding::new(verdict, format!("{amount_text} nats"), why)
        .within(Interval::new(amount, stderr, Unit::Nats), &[low, high, Q2_PARTLY_ABOVE])
}

fn q3(cast: &Cast<'_>) -> Finding {
    let two = need!(cast, TWO);
    let window = window!(two);
    let (before, after, last) = (-window.score_before, -window.score_after, two.last_icl());
    let end = -last.score;
    if end <= 0.0 {
        let why =
            format!("The run ends with no ICL at all ({} nats), so there is nothing to have a share of.", number(end));
        return Finding::new(Verdict::Not, "no share".to_string(), why);
    }
    let share = (after - before) / end;
    let verdict = graded(share > Q3_REPRODUCED_ABOVE, share > Q3_PARTLY_ABOVE);
    // First order, snapshots as if independent; they share their examples, so the true error is smaller.
    let [start_error, end_error] = [window.start_tokens, window.end_tokens].map(|at| two.icl_near(at).stderr);
    let stderr =
        root_of_squares([start_error, end_error, last.stderr.map(|stderr| share * stderr)]).map(|root| root / end);
    let why = format!(
        "From {} to {} nats inside the window, {} at the end of the run.",
        number(before),
        number(after),
        number(end)
    );
    Finding::new(verdict, percent(share), why)
        .within(Interval::new(share, stderr, Unit::Share), &[Q3_REPRODUCED_ABOVE, Q3_PARTLY_ABOVE])
}

fn q4(cast: &Cast<'_>) -> Finding {
    let two = need!(cast, TWO);
    let window = window!(two);
    let run = two.run.measured_tokens() as f64;
    let [start, end] = [window.start_tokens as f64, window.end_tokens as f64];
    let share = (end - start) / run;
    let warmup = two.warmup_tokens();
    let after_warmup = !two.starts_in_warmup(window);
    let verdict = graded(share < Q4_REPRODUCED_BELOW && after_warmup, share < Q4_PARTLY_BELOW);
    let why = format!(
        "The window takes {} of the run, from {} to {} of {} tokens; it starts {} the warm-up's end at {}, from where on it is sought.",
        percent(share),
        tokens(start),
        tokens(end),
        tokens(run),
        if after_warmup { "after" } else { "at" },
        tokens(warmup),
    );
    let spacing = two.spacing_at(start).max(two.spacing_at(end)) / run;
    let near = [Q4_REPRODUCED_BELOW, Q4_PARTLY_BELOW].into_iter().find(|limit| (share - limit).abs() < spacing);
    let near_warmup = (start - warmup).abs() < two.spacing_at(start);
    Finding::new(verdict, format!("{} wide, from {} of the run", percent(share), percent(start / run)), why)
        .note_if(near.is_some(), || {
            format!(
                "The limit of {} is less than a snapshot away: the verdict is inside the resolution.",
                percent(near.unwrap_or_default())
            )
        })
        .note_if(near_warmup, || {
            "Start and warm-up end are less than a snapshot apart: their order is inside the resolution.".to_string()
        })
}

fn q5(cast: &Cast<'_>) -> Finding {
    let (one, two) = (need!(cast, ONE), need!(cast, TWO));
    let best = one.max_prefix_matching();
    let no_head = best.prefix_matching < Q5_PREFIX_MATCHING_BELOW;
    let ratio = Ratio::of(one, two);
    let little = ratio.two > 0.0 && ratio.share < Q5_SHARE_BELOW;
    let verdict = graded(no_head && little, no_head || little);
    let why = format!(
        "The highest prefix matching in 1 layer is {} (head {}.{}), {} the limit of {}. {}",
        number(best.prefix_matching),
        best.layer,
        best.head,
        if no_head { "below" } else { "not below" },
        number(Q5_PREFIX_MATCHING_BELOW),
        ratio.sentence(ONE),
    );
    let ours = format!(
        "prefix matching at most {}; ICL {} nats, {}",
        number(best.prefix_matching),
        number(ratio.one),
        ratio.against()
    );
    let margin = Z * best.prefix_matching_stderr.unwrap_or_default();
    ratio.judged(Finding::new(verdict, ours, why), Q5_SHARE_BELOW).note_if(
        (best.prefix_matching - Q5_PREFIX_MATCHING_BELOW).abs() < margin,
        || {
            "The prefix-matching score is within its 95 % interval of the limit: that half is inside the noise."
                .to_string()
        },
    )
}

fn q6(cast: &Cast<'_>) -> Finding {
    let two = need!(cast, TWO);
    let window = window!(two);
    let best = two.best_head();
    let head = format!("Head {}.{} ends highest, at {}", best.layer, best.head, number(best.prefix_matching));
    let half = two.head_half_time(&best).filter(|_| best.prefix_matching > INDUCTION_HEAD_ABOVE);
    let Some(half) = half else {
        let why = format!("{head}: no head ends above {}, so none formed in the window.", number(INDUCTION_HEAD_ABOVE));
        return Finding::new(Verdict::Not, format!("no induction head (best {})", number(best.prefix_matching)), why);
    };
    let [start, end] = [window.start_tokens as f64, window.end_tokens as f64];
    let outside = (start - half).max(half - end).max(0.0);
    let verdict = graded(outside == 0.0, outside <= end - start);
    let place = if outside == 0.0 { "inside".to_string() } else { format!("{} tokens outside", tokens(outside)) };
    let why = format!(
        "{head}, and is half-way at {} tokens: {place} the window of {} to {}.",
        tokens(half),
        tokens(start),
        tokens(end)
    );
    let spacing = two.spacing_at(half);
    let near =
        [start, end, start - (end - start), end + (end - start)].into_iter().any(|edge| (half - edge).abs() < spacing);
    Finding::new(verdict, format!("half-way at {} tokens; ends at {}", tokens(half), number(best.prefix_matching)), why)
        .note_if(near, || "A limit is less than a snapshot away: the verdict is inside the resolution.".to_string())
}

fn q9(cast: &Cast<'_>) -> Finding {
    let (one, two) = (need!(cast, ONE_SMEARED), need!(cast, TWO));
    let two_smeared = need!(cast, TWO_SMEARED);
    let ratio = Ratio::of(one, two);
    let forms = ratio.two > 0.0 && ratio.share >= Q9_SHARE_FROM;

    let [vanilla, smeared] = [two, two_smeared].map(|player| {
        let end = player.best_head().prefix_matching;
        player.max_half_time().filter(|_| end > INDUCTION_HEAD_ABOVE).ok_or(end)
    });
    let (earlier, times, when) = match (smeared, vanilla) {
        (Ok(smeared), Ok(vanilla)) => {
            let [a, b] = [smeared, vanilla].map(tokens);
            let why = format!("The highest prefix matching is half-way at {a} tokens with smeared keys, {b} without.");
            (smeared < vanilla, why, format!("half-way at {a} against {b} tokens"))
        }
        (Err(end), _) => none_formed(TWO_SMEARED, end),
        (_, Err(end)) => none_formed(TWO, end),
    };
    let close = match (smeared, vanilla) {
        (Ok(a), Ok(b)) => (a - b).abs() < two.spacing_at(b).max(two_smeared.spacing_at(a)),
        _ => false,
    };
    let why = format!("{} {times}", ratio.sentence(ONE_SMEARED));
    let ours = format!("1 layer smeared {} nats, {}; {when}", number(ratio.one), ratio.against());
    ratio
        .judged(Finding::new(graded(forms && earlier, forms || earlier), ours, why), Q9_SHARE_FROM)
        .note_if(close, || {
            "The half times are less than a snapshot apart: their order is inside the resolution.".to_string()
        })
}

/// The error of a sum from those of its parts, if all are known.
fn root_of_squares<const N: usize>(parts: [Option<f64>; N]) -> Option<f64> {
    parts.into_iter().try_fold(0.0, |sum, part| Some(sum + part?.powi(2))).map(f64::sqrt)
}

fn none_formed(part: Part, end: f64) -> (bool, String, String) {
    let [end, limit] = [end, INDUCTION_HEAD_ABOVE].map(number);
    let why =
        format!("No head of the {} ends above {limit} (best {end}), so when it formed means nothing.", part.run());
    (false, why, "no induction head to time".to_string())
}

/// One run's last amount of ICL as a share of the 2-layer run's.
struct Ratio {
    one: f64,
    two: f64,
    share: f64,
    stderr: Option<f64>,
}

impl Ratio {
    fn of(one: &Player<'_>, two: &Player<'_>) -> Self {
        let [a, b] = [one, two].map(Player::last_icl);
        let share = a.score / b.score;
        // First order, the runs as if independent.
        let stderr =
            root_of_squares([a.stderr, b.stderr.map(|stderr| share * stderr)]).map(|root| root / b.score.abs());
        Self { one: -a.score, two: -b.score, share, stderr }
    }

    fn sentence(&self, part: Part) -> String {
        let (one, two, label) = (number(self.one), number(self.two), part.label());
        if self.two <= 0.0 {
            return format!("2 layers end with no ICL ({two} nats) to compare {label} with.");
        }
        format!("At the end, {label} has {one} nats of ICL, {} of the {two} of 2 layers.", percent(self.share))
    }

    /// "24 % of 2 layers' 0.42"
    fn against(&self) -> String {
        if self.two <= 0.0 {
            return format!("2 layers {}", number(self.two));
        }
        format!("{} of 2 layers' {}", percent(self.share), number(self.two))
    }

    /// Adds the share's interval where there is a share.
    fn judged(&self, finding: Finding, limit: f64) -> Finding {
        if self.two <= 0.0 {
            return finding;
        }
        finding.within(Interval::new(self.share, self.stderr, Unit::OfTwo), &[limit])
    }
}
