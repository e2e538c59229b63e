//! The paper's claims, each with our pass rule and verdict: the one place where results are interpreted.
//!
//! [`RULES`] is the table: ids of paper.md, section 9; the numbers that decide stand directly above it, and nowhere else.
//! They were fixed before these numbers were first measured, and are not tuned. The window and half times come from `induction_metrics`.
//!
//! A rule names the quantities that decide it. Each is a number read off an experiment, and read off [`DRAWS`] bootstrap
//! resamples of it for its 95 % interval.

mod ablations;
mod curves;
mod heads;

use induction_metrics::{Interval, percentile_interval};
use serde::Serialize;

use crate::Run;
use crate::cast::{Cast, Part, Player, TWO, casts};
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
    /// 95 % bootstrap intervals over evaluation examples (and seeds, where there are several; over heads for Q15 and Q16)
    /// of the numbers that decide.
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
    quantities: &'static [Quantity],
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
/// The deepest bump is this many times as deep as any other, or it is not "the only place".
const Q7_DEPTH_RATIO: f64 = 2.0;
const Q8_ANGLE_ABOVE: f64 = 45.0;
const Q9_SHARE_FROM: f64 = 0.75;
const Q10_SHARE_ABOVE: f64 = 0.5;
/// "Most other heads".
const Q10_OTHERS_FROM: f64 = 0.5;
const Q12_PARTLY_FROM: f64 = 0.5;
/// Uniform attention scores 0.03 on the paper's sample; strictly above 0 are all heads.
const Q15_PREFIX_MATCHING_ABOVE: f64 = 0.1;
const Q15_P_BELOW: f64 = 0.05;
const Q16_RHO_FROM: f64 = 0.5;
/// Q1's 0.15 nats and Q2's 0.2, spread over the factor of ten between indices 50 and 500: nats an e-fold.
const Q22_FLAT_ABOVE: f64 = -0.065;
const Q22_FALLING_BELOW: f64 = -0.087;
const Q22_RATIO: f64 = 2.0;
/// The paper's 99 %, 65 % and "10 points more", each with room for a much smaller model.
const R1_PREVIOUS_FROM: f64 = 0.9;
const R1_ONE_TOKEN_FROM: f64 = 0.5;
const S1_SHARE_ABOVE: f64 = 0.5;
const K1_SHARE_ABOVE: f64 = 0.5;
const P2_SHARE_BELOW: f64 = 0.5;
/// A head below this is no induction head (paper.md, 11), and when it "formed" means nothing.
pub(crate) const INDUCTION_HEAD_ABOVE: f64 = 0.3;
/// Of the rest, a head above this is a previous-token head (paper.md, 11).
pub(crate) const PREVIOUS_TOKEN_HEAD_ABOVE: f64 = 0.3;

/// The claims, in the order of paper.md, section 9.
pub const RULES: [Rule; 20] = [
    Rule {
        id: "Q1",
        title: "Before the phase change there is little in-context learning",
        paper: "under 0.15 nats",
        rule: "2 layers: the amount of ICL at the window's start. Reproduced below 0.15 nats, partly below 0.25.",
        judge: curves::q1,
        quantities: &[Quantity {
            name: "amount",
            unit: Unit::Nats,
            limits: &[Q1_REPRODUCED_BELOW, Q1_PARTLY_BELOW],
            value: curves::amount_before,
        }],
    },
    Rule {
        id: "Q2",
        title: "After it, in-context learning is at its full strength",
        paper: "about 0.4 nats",
        rule: "2 layers: the amount of ICL at the window's end. Reproduced from 0.2 to 0.8 nats (half to twice the paper's), partly above 0.1.",
        judge: curves::q2,
        quantities: &[Quantity {
            name: "amount",
            unit: Unit::Nats,
            limits: &[Q2_REPRODUCED[0], Q2_REPRODUCED[1], Q2_PARTLY_ABOVE],
            value: curves::amount_after,
        }],
    },
    Rule {
        id: "Q3",
        title: "The window forms most of the final in-context learning",
        paper: "over 75 %",
        rule: "2 layers: (amount after - amount before) / amount at the last snapshot. Reproduced above 75 %, partly above 50 %.",
        judge: curves::q3,
        quantities: &[Quantity {
            name: "share",
            unit: Unit::Share,
            limits: &[Q3_REPRODUCED_ABOVE, Q3_PARTLY_ABOVE],
            value: curves::share_formed,
        }],
    },
    Rule {
        id: "Q4",
        title: "The change is abrupt, and no artefact of the schedule",
        paper: "2.5 to 5 of 10 billion tokens (its appendix: 1 to 3), after the warm-up",
        rule: "2 layers: the window's width as a share of the run. Reproduced below 25 % if the window starts after the learning-rate warm-up; partly below 50 %.",
        judge: curves::q4,
        quantities: &[
            Quantity {
                name: "width",
                unit: Unit::Share,
                limits: &[Q4_REPRODUCED_BELOW, Q4_PARTLY_BELOW],
                value: curves::window_width,
            },
            Quantity { name: "start", unit: Unit::Tokens, limits: &[], value: curves::window_start },
            Quantity { name: "end", unit: Unit::Tokens, limits: &[], value: curves::window_end },
        ],
    },
    Rule {
        id: "Q5",
        title: "One layer forms no induction heads and learns little in context",
        paper: "no phase change; ICL score about -0.1 throughout",
        rule: "1 layer: every head's prefix matching below 0.2 at every snapshot, and the last amount of ICL below 50 % of 2 layers'. Partly if only one holds.",
        judge: curves::q5,
        quantities: &[
            Quantity {
                name: "prefix matching",
                unit: Unit::Plain,
                limits: &[Q5_PREFIX_MATCHING_BELOW],
                value: curves::one_layer_prefix_matching,
            },
            Quantity { name: "ICL", unit: Unit::OfTwo, limits: &[Q5_SHARE_BELOW], value: curves::one_layer_share },
        ],
    },
    Rule {
        id: "Q6",
        title: "Induction heads form in the same window",
        paper: "prefix matching rises to 0.8-0.9 inside the window",
        rule: "2 layers: the half time of the best head's prefix matching lies inside the ICL window; partly within one window's width of it. The head must end above 0.3, where we call it an induction head.",
        judge: curves::q6,
        quantities: &[Quantity {
            name: "place in the window (0 its start, 1 its end)",
            unit: Unit::Plain,
            limits: &[-1.0, 0.0, 1.0, 2.0],
            value: curves::place_in_window,
        }],
    },
    Rule {
        id: "Q7",
        title: "The loss has a bump there, and leaves the 1-layer curve",
        paper: "the only place where the loss is not convex; from there on 2 layers lie below 1",
        rule: "2 layers, held-out loss after the warm-up, smoothed as the ICL score: its deepest departure from its convex envelope overlaps the window and is at least 2 times as deep as any other; and the loss comes to lie below 1 layer's by half of the final gap in the window, or within one window's width of it. Partly if only one holds.",
        judge: curves::q7,
        quantities: &[
            Quantity { name: "depth", unit: Unit::Nats, limits: &[], value: curves::bump_depth },
            Quantity { name: "leaves 1 layer at", unit: Unit::Tokens, limits: &[], value: curves::divergence_tokens },
        ],
    },
    Rule {
        id: "Q8",
        title: "The models' losses change direction at the phase change",
        paper: "the PCA trajectory pivots, about orthogonally; 1 layer's does not",
        rule: "2 layers, plane of the joint PCA of random-token losses: the angle between the displacement over one window's width before the window and over one after it. Reproduced above 45 degrees if 1 layer turns less over the same span; partly if only one holds.",
        judge: curves::q8,
        quantities: &[
            Quantity { name: "2 layers", unit: Unit::Degrees, limits: &[Q8_ANGLE_ABOVE], value: curves::angle_of_two },
            Quantity {
                name: "less 1 layer's",
                unit: Unit::Degrees,
                limits: &[0.0],
                value: |cast| Some(curves::angle_of_two(cast)? - curves::angle_of_one(cast)?),
            },
        ],
    },
    Rule {
        id: "Q9",
        title: "Smeared keys give one layer induction, and two layers earlier induction",
        paper: "1 layer smeared changes like 2 layers; 2 layers smeared change earlier",
        rule: "1 layer smeared ends with at least 75 % of 2 layers' ICL, and the highest prefix matching reaches half its end earlier in 2 layers smeared than in 2 layers (both ending above 0.3). Partly if only one holds.",
        judge: curves::q9,
        quantities: &[
            Quantity { name: "ICL", unit: Unit::OfTwo, limits: &[Q9_SHARE_FROM], value: curves::one_smeared_share },
            Quantity {
                name: "half time, smeared to vanilla",
                unit: Unit::Plain,
                limits: &[1.0],
                value: curves::half_time_ratio,
            },
        ],
    },
    Rule {
        id: "Q10",
        title: "Induction heads carry most of the in-context learning",
        paper: "almost all of it in small attention-only models; without most other heads there is more of it",
        rule: "2 layers, last snapshot, each head removed by zero with all patterns kept: the induction heads' (prefix matching above 0.3) changes of the ICL score are more than 50 % of the sum of all positive changes, and at least 50 % of the other heads change it by 0 or less. Partly if only one holds.",
        judge: ablations::q10,
        quantities: &[Quantity {
            name: "share",
            unit: Unit::Share,
            limits: &[Q10_SHARE_ABOVE],
            value: ablations::share_of_effects,
        }],
    },
    Rule {
        id: "Q11",
        title: "Removing an induction head undoes the phase change",
        paper: "the before-and-after attribution is negative for induction heads",
        rule: "2 layers, last snapshot, patterns kept: the change of the random-token losses without a head, along the direction in which they changed over the window. Reproduced if it is negative for every induction head and most negative for one of them; partly if only one holds.",
        judge: ablations::q11,
        quantities: &[Quantity {
            name: "least negative induction head",
            unit: Unit::Plain,
            limits: &[0.0],
            value: ablations::weakest_undoing,
        }],
    },
    Rule {
        id: "Q12",
        title: "Induction heads lie in the last layer",
        paper: "the best prefix matching of attention-only models with 2 to 6 layers is in the last layer",
        rule: "Vanilla models of 2 layers or more whose best head ends above 0.3: the layer of that head. Reproduced if it is the last in all, partly if in at least 50 % of them.",
        judge: heads::q12,
        quantities: &[Quantity {
            name: "share of models",
            unit: Unit::Share,
            limits: &[Q12_PARTLY_FROM],
            value: heads::share_in_last_layer,
        }],
    },
    Rule {
        id: "Q15",
        title: "Heads that match prefixes are more likely to copy",
        paper: "positive prefix matching goes with positive copying",
        rule: "All heads at the last snapshot: the odds of a copying score above 0, of those with prefix matching above 0.1 to the others. Reproduced if the odds ratio is above 1 with Fisher's one-sided p below 0.05 and the rank correlation of the two scores is positive; partly if either the ratio is above 1 or the correlation positive.",
        judge: heads::q15,
        quantities: &[Quantity { name: "rho", unit: Unit::Plain, limits: &[0.0], value: heads::rho_copying }],
    },
    Rule {
        id: "Q16",
        title: "Copying and prefix matching can be told from the weights",
        paper: "copying goes with the OV circuit's eigenvalues, prefix matching with the QK circuit's trace: \"correlates well\"",
        rule: "All heads at the last snapshot: rank correlation of copying with the OV eigenvalue ratio, and (layers after the first) of prefix matching with the trace of the QK circuit's previous-token term. Reproduced if both are at least 0.5, partly if one is.",
        judge: heads::q16,
        quantities: &[
            Quantity { name: "OV rho", unit: Unit::Plain, limits: &[Q16_RHO_FROM], value: heads::rho_ov },
            Quantity { name: "QK rho", unit: Unit::Plain, limits: &[Q16_RHO_FROM], value: heads::rho_qk },
        ],
    },
    Rule {
        id: "Q22",
        title: "Before the change the loss is flat in the late context, after it it falls",
        paper: "flat after about the 50th token before the change, improving after it",
        rule: "2 layers: d loss / d ln index over the indices from the early one on. Reproduced if at least -0.065 nats an e-fold at the window's start and at most -0.087 at its end; partly if it falls at the end, 2 times as steeply as at the start.",
        judge: curves::q22,
        quantities: &[
            Quantity { name: "before", unit: Unit::Slope, limits: &[Q22_FLAT_ABOVE], value: curves::slope_before },
            Quantity { name: "after", unit: Unit::Slope, limits: &[Q22_FALLING_BELOW], value: curves::slope_after },
        ],
    },
    Rule {
        id: "R1",
        title: "Simple patterns do what these heads do",
        paper: "the ideal previous-token pattern recovers 99 %, \"after an earlier copy\" about 65 %, a match of two tokens 10 points more",
        rule: "2 layers, last snapshot: of the mean loss that removing a head costs, the share that a pattern made from the tokens alone wins back. At least 90 % for the strongest previous-token head, at least 50 % for the best induction head, and more with two matched tokens than with one; partly if two of the three hold.",
        judge: ablations::r1,
        quantities: &[
            Quantity {
                name: "previous token",
                unit: Unit::Share,
                limits: &[R1_PREVIOUS_FROM],
                value: ablations::recovered_previous,
            },
            Quantity {
                name: "one token",
                unit: Unit::Share,
                limits: &[R1_ONE_TOKEN_FROM],
                value: ablations::recovered_one,
            },
            Quantity {
                name: "two tokens, beyond one",
                unit: Unit::Share,
                limits: &[0.0],
                value: ablations::recovered_gain,
            },
        ],
    },
    Rule {
        id: "S1",
        title: "All induction heads together, against as many others",
        paper: "not done; almost all in-context learning of small attention-only models comes from induction heads",
        rule: "2 layers, last snapshot, patterns kept: the share of the amount of ICL that is lost without all induction heads. Reproduced above 50 % if every set of as many other heads (of the same layers where there are enough) loses less; partly if only one holds.",
        judge: ablations::s1,
        quantities: &[
            Quantity { name: "share", unit: Unit::Share, limits: &[S1_SHARE_ABOVE], value: ablations::share_lost },
            Quantity {
                name: "beyond the largest control",
                unit: Unit::Share,
                limits: &[0.0],
                value: ablations::lost_beyond_controls,
            },
        ],
    },
    Rule {
        id: "K1",
        title: "The induction head reads the previous-token head through its keys",
        paper: "K-composition (argument 5)",
        rule: "2 layers, last snapshot: taking what the strongest previous-token head writes out of the best induction head's keys alone costs more than 50 % of what removing that induction head costs in ICL, and more than any other head's or any other path into it. Partly if only one holds.",
        judge: ablations::k1,
        quantities: &[
            Quantity {
                name: "keys",
                unit: Unit::Share,
                limits: &[K1_SHARE_ABOVE],
                value: ablations::share_through_keys,
            },
            Quantity {
                name: "beyond the next path",
                unit: Unit::Share,
                limits: &[0.0],
                value: ablations::keys_beyond_others,
            },
        ],
    },
    Rule {
        id: "P1",
        title: "A previous-token head given from the start brings the change earlier",
        paper: "not done; argument 2 by intervention",
        rule: "2 layers with a head of the first layer clamped to the previous token, in training and after: the highest prefix matching reaches half its end earlier than without (both ending above 0.3).",
        judge: ablations::p1,
        quantities: &[Quantity {
            name: "half time, given to vanilla",
            unit: Unit::Plain,
            limits: &[1.0],
            value: ablations::half_time_given,
        }],
    },
    Rule {
        id: "P2",
        title: "Without attention to what followed a copy the change does not come",
        paper: "not done; argument 2 by intervention",
        rule: "2 layers, every head forbidden to attend to what followed an earlier copy of the token, in training and after: no phase-change window, and below 50 % of the free model's ICL at the end. Partly if only one holds.",
        judge: ablations::p2,
        quantities: &[Quantity {
            name: "ICL",
            unit: Unit::OfTwo,
            limits: &[P2_SHARE_BELOW],
            value: ablations::share_without,
        }],
    },
];

/// Judges every claim from measured runs.
///
/// The verdict comes from one experiment, chosen by its specs; the same rule applied to further seeds is told in `why`.
pub fn claims(runs: &[Run]) -> Vec<Claim> {
    judge(&casts(runs))
}

pub(crate) fn judge(casts: &[Cast<'_>]) -> Vec<Claim> {
    let intervals = intervals(casts);
    RULES.iter().zip(intervals).map(|(rule, intervals)| judge_one(rule, casts, &intervals)).collect()
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

fn judge_one(rule: &Rule, casts: &[Cast<'_>], intervals: &[Option<Interval>]) -> Claim {
    let Some((lead, others)) = casts.split_first() else {
        return claim(rule, missing(TWO), None, String::new());
    };
    let mut finding = (rule.judge)(lead);
    let others: Vec<(u64, Finding)> = others
        .iter()
        .map(|cast| (cast.seed, (rule.judge)(cast)))
        .filter(|(_, other)| other.verdict != Verdict::OutOfReach)
        .collect();
    let mut seeds = String::new();
    let mut interval = None;
    if finding.verdict != Verdict::OutOfReach {
        finding.notes.extend(rule.quantities.iter().zip(intervals).filter_map(|(quantity, interval)| {
            let interval = interval.as_ref()?;
            quantity.limits.iter().find(|limit| interval.low < **limit && **limit < interval.high).map(|limit| {
                let limit = quantity.unit.show(*limit);
                format!("The 95 % interval reaches across the limit of {limit}: the verdict is inside the noise.")
            })
        }));
        if !lead.has_examples() {
            finding.notes.push("One evaluation example: how large the noise is is unknown.".to_string());
        }
        interval = show_intervals(rule.quantities, intervals);
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
    let Finding { verdict, ours, why, notes } = finding;
    let notes: String = notes.iter().map(|note| format!(" {note}")).collect();
    let why = format!("{why}{notes}{seeds}");
    Claim { id: rule.id, title: rule.title, paper: rule.paper, ours, interval, verdict, why }
}

/// What one experiment says of one claim.
struct Finding {
    verdict: Verdict,
    ours: String,
    why: String,
    notes: Vec<String>,
}

impl Finding {
    fn new(verdict: Verdict, ours: String, why: String) -> Self {
        Self { verdict, ours, why, notes: Vec::new() }
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

pub(crate) use {need, window};
