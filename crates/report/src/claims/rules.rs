//! The table of claims: what the paper says, our rule, and the numbers that decide.
//!
//! These limits stand here and nowhere else. They are fixed before the runs that they judge are
//! trained, and are not tuned: the table's [`revision`](super::revision) is written into a plan's
//! manifest, and the report prints it beside its own. Those about trained models (Q23, M4, M6) came
//! after a first one, SmolLM2-135M, had been scanned: of that one they predict nothing, and say so.
//!
//! A rule must be able to fail: each is held, in a test, against runs that lack the effect
//! (`tests/claims.rs`).

use super::rule::{Bound, Experiment, Judge, Partly, Rule, Test};
use super::{Unit, ablations, change, controls, heads, models, series};
use Bound::{Above, AtLeast, AtMost, Below, Told, Within};

/// The deepest bump is this many times as deep as any other, or it is not "the only place".
pub(super) const Q7_DEPTH_RATIO: f64 = 2.0;
/// Last index of the paper's "first ten tokens", with neighbours against noise.
pub(super) const Q18_INDICES: [usize; 2] = [8, 12];
/// A smaller advantage has no shares.
pub(super) const Q18_ADVANTAGE_FROM: f64 = 0.02;
/// Fewer sizes have no order to speak of.
pub(super) const SIZES_FROM: usize = 3;
/// Uniform attention scores 0.03 on the paper's sample; strictly above 0 are all heads.
pub(super) const Q15_PREFIX_MATCHING_ABOVE: f64 = 0.1;
/// Half-way from a head that raises all tokens alike to the ceiling of its rank.
pub(super) const Q15_COPIES_FROM: f64 = 0.5;
pub(super) const Q15_OV_FROM: f64 = 0.5;
/// A head that raises all 25 tokens of the sample alike scores -0.85: only below that it does the
/// opposite of copying.
pub(super) const Q23_COPYING_BELOW: f64 = -0.9;
pub(super) const Q23_LAYERS_ABOVE: usize = 16;
/// How many times the attention must be what chance gives, and how many standard errors beyond it.
pub(super) const M4_TIMES_CHANCE: f64 = 2.0;
pub(super) const M4_ERRORS: f64 = 2.0;
pub(super) const M6_PREFIX_MATCHING_FROM: f64 = 0.5;
pub(super) const M6_SECOND_BELOW: f64 = 0.5;
pub(super) const M6_TIMES_CONTROL: f64 = 3.0;
/// A head below this is no induction head (paper.md, 11), and when it "formed" means nothing.
pub(crate) const INDUCTION_HEAD_ABOVE: f64 = 0.3;
/// Of the rest, a head above this is a previous-token head (paper.md, 11).
pub(crate) const PREVIOUS_TOKEN_HEAD_ABOVE: f64 = 0.3;

type Value = fn(&crate::cast::Cast<'_>) -> Option<f64>;

const fn test(name: &'static str, unit: Unit, value: Value, holds: Bound) -> Test {
    Test { name, unit, value, holds, weakly: None }
}

const fn graded(name: &'static str, unit: Unit, value: Value, holds: Bound, weakly: Bound) -> Test {
    Test { name, unit, value, holds, weakly: Some(weakly) }
}

/// The claims, in the order of paper.md, section 9; then those that are ours.
pub const RULES: &[Rule] = &[
    Rule {
        id: "Q1",
        argument: 1,
        figures: &["F3"],
        title: "Before the phase change there is little in-context learning",
        paper: "under 0.15 nats",
        rule: "2 layers: the same-token amount of ICL before the fitted step. Reproduced below 0.15 nats, partly below 0.25.",
        decide: "More evaluation examples and seeds.",
        judge: Judge::Runs(Experiment {
            needs: change::needs_two,
            partly: Partly::Weakly,
            why: change::window_in_words,
            tests: &[graded("amount", Unit::Nats, change::amount_before, Below(0.15), Below(0.25))],
        }),
    },
    Rule {
        id: "Q2",
        argument: 1,
        figures: &["F3"],
        title: "After it, in-context learning is at its full strength",
        paper: "about 0.4 nats",
        rule: "2 layers: the same-token amount of ICL after the fitted step. Reproduced from 0.2 to 0.8 nats (half to twice the paper's), partly above 0.1.",
        decide: "A text whose in-context matches gain about 0.4 nats, neither much more nor less, with more evaluation examples.",
        judge: Judge::Runs(Experiment {
            needs: change::needs_two,
            partly: Partly::Weakly,
            why: change::after_in_words,
            tests: &[graded(
                "amount",
                Unit::Nats,
                change::amount_after,
                Within(0.2, 0.8),
                Above(0.1),
            )],
        }),
    },
    Rule {
        id: "Q3",
        argument: 1,
        figures: &["F3"],
        title: "The change forms most of the final in-context learning",
        paper: "over 75 %",
        rule: "2 layers: the fitted step's height as a share of the last snapshot's amount of ICL. Reproduced above 75 %, partly above 50 %.",
        decide: "A longer run, so that what forms after the change has come to rest.",
        judge: Judge::Runs(Experiment {
            needs: change::needs_two,
            partly: Partly::Weakly,
            why: change::window_in_words,
            tests: &[graded("share", Unit::Share, change::share_formed, Above(0.75), Above(0.5))],
        }),
    },
    Rule {
        id: "Q4",
        argument: 1,
        figures: &["F3"],
        title: "The change is abrupt, and no artefact of the schedule",
        paper: "2.5 to 5 of 10 billion tokens (its appendix: 1 to 3), after the warm-up",
        rule: "2 layers: from 10 to 90 % of the fitted step as a share of the run. Reproduced at up to 25 %, partly at up to 50 %, if it ends before the learning rate's decay begins (0 % or more of the run between them). It is sought after the warm-up.",
        decide: "Denser snapshots, more tokens.",
        judge: Judge::Runs(Experiment {
            needs: change::needs_two,
            partly: Partly::Weakly,
            why: change::schedule_in_words,
            tests: &[
                graded("width", Unit::Share, change::window_width, AtMost(0.25), AtMost(0.5)),
                test("after the warm-up", Unit::Share, change::after_warmup, Told),
                test("before the decay", Unit::Share, change::before_decay, AtLeast(0.0)),
            ],
        }),
    },
    Rule {
        id: "Q5",
        argument: 1,
        figures: &["F3", "F5"],
        title: "One layer forms no induction heads and learns little in context",
        paper: "no phase change; ICL score about -0.1 throughout",
        rule: "2 layers' best prefix matching ends more than 0.3 above anything that a head of 1 layer ever reaches, and 1 layer ends with less than 50 % of 2 layers' same-token ICL. Partly if only one holds.",
        decide: "More seeds and evaluation examples.",
        judge: Judge::Runs(Experiment {
            needs: change::needs_one_and_two,
            partly: Partly::Any,
            why: change::one_layer_in_words,
            tests: &[
                test(
                    "prefix matching beyond 1 layer",
                    Unit::Plain,
                    change::matching_beyond_one,
                    Above(0.3),
                ),
                test("ICL of 1 layer", Unit::OfTwo, change::one_layer_share, Below(0.5)),
                test("highest in 1 layer", Unit::Plain, change::one_layer_matching, Told),
            ],
        }),
    },
    Rule {
        id: "Q6",
        argument: 1,
        figures: &["F5"],
        title: "Induction heads form in the same window",
        paper: "prefix matching rises to 0.8-0.9 inside the window",
        rule: "2 layers: the best head ends above 0.3; the middle of the step in its prefix matching lies inside the window of the score (0 its start, 1 its end) and less than 10 % of the run from its middle. Partly if it ends above 0.3 and lies within half a window's width of it (-0.5 to 1.5), less than 20 % away.",
        decide: "Denser snapshots around the window, more seeds.",
        judge: Judge::Runs(Experiment {
            needs: change::needs_two,
            partly: Partly::Weakly,
            why: change::heads_in_words,
            tests: &[
                graded(
                    "place in the window",
                    Unit::Plain,
                    change::place_in_window,
                    Within(0.0, 1.0),
                    Within(-0.5, 1.5),
                ),
                graded(
                    "middles apart",
                    Unit::Share,
                    change::midpoints_apart,
                    Below(0.1),
                    Below(0.2),
                ),
                test("ends at", Unit::Plain, change::best_matching, Above(0.3)),
            ],
        }),
    },
    Rule {
        id: "Q7",
        argument: 1,
        figures: &["F6"],
        title: "The loss has a bump there, and leaves the 1-layer curve",
        paper: "the only place where the loss is not convex; from there on 2 layers lie below 1",
        rule: "2 layers, held-out loss after the warm-up, smoothed: its deepest departure from its convex envelope overlaps the window and is more than 2 times as deep as any elsewhere (what it is deeper, above 0); and the loss comes to lie below 1 layer's by half of the final gap inside the window (0 to 1). Partly if only one holds.",
        decide: "Ten times the snapshots around the window: the bump is a few hundredths of a nat deep at most.",
        judge: Judge::Runs(Experiment {
            needs: change::needs_one_and_two,
            partly: Partly::Any,
            why: change::bump_in_words,
            tests: &[
                test(
                    "deeper than twice any other",
                    Unit::Nats,
                    change::bump_beyond_others,
                    Above(0.0),
                ),
                test(
                    "leaves 1 layer, place in the window",
                    Unit::Plain,
                    change::leaves_in_window,
                    Within(0.0, 1.0),
                ),
            ],
        }),
    },
    Rule {
        id: "Q8",
        argument: 1,
        figures: &["F7"],
        title: "The models' losses change direction at the phase change",
        paper: "the PCA trajectory pivots, about orthogonally; 1 layer's does not",
        rule: "2 layers, plane of the joint PCA of random-token losses: the angle between the displacement over the window's width before it (at least half of it, after the warm-up) and that inside it. Reproduced above 45 degrees if it is more than 20 degrees beyond 1 layer's over the same span.",
        decide: "Several seeds of 1 layer, to say how far it turns by itself.",
        judge: Judge::Runs(Experiment {
            needs: change::needs_one_and_two,
            partly: Partly::Never,
            why: change::turn_in_words,
            tests: &[
                test("2 layers", Unit::Degrees, change::turn_of_two, Above(45.0)),
                test("beyond 1 layer's", Unit::Degrees, change::turn_beyond_one, Above(20.0)),
            ],
        }),
    },
    Rule {
        id: "Q9",
        argument: 2,
        figures: &["F10"],
        title: "Smeared keys give one layer induction, and two layers earlier induction",
        paper: "1 layer smeared changes like 2 layers; 2 layers smeared change earlier",
        rule: "1 layer smeared ends with at least 75 % of 2 layers' same-token ICL, and the highest prefix matching reaches half its end earlier in 2 layers smeared than in 2 layers (the ratio of the times below 1; both ending above 0.3). Partly if only one holds.",
        decide: "More seeds, and more tokens until both models have come to rest.",
        judge: Judge::Runs(Experiment {
            needs: change::needs_smeared,
            partly: Partly::Any,
            why: change::smeared_in_words,
            tests: &[
                test(
                    "ICL of 1 layer smeared",
                    Unit::OfTwo,
                    change::one_smeared_share,
                    AtLeast(0.75),
                ),
                test(
                    "half time, smeared to vanilla",
                    Unit::Plain,
                    change::half_time_ratio,
                    Below(1.0),
                ),
            ],
        }),
    },
    Rule {
        id: "Q10",
        argument: 3,
        figures: &["F11"],
        title: "Induction heads carry most of the in-context learning",
        paper: "almost all of it in small attention-only models; without most other heads there is more of it",
        rule: "2 layers, last snapshot, each head removed by zero with all patterns kept: the induction heads' (prefix matching above 0.3) changes of the same-token score are more than 50 % of the sum of all heads' changes (the others' together, negative ones included, count for no less than nothing); and at least 50 % of the other heads change it by 0 or less. Partly if only one holds.",
        decide: "More examples under ablation, and more seeds.",
        judge: Judge::Runs(Experiment {
            needs: ablations::needs_ablated,
            partly: Partly::Any,
            why: ablations::effects_in_words,
            tests: &[
                test("share", Unit::Share, ablations::share_of_effects, Above(0.5)),
                test(
                    "others at 0 or less",
                    Unit::Share,
                    ablations::others_not_helping,
                    AtLeast(0.5),
                ),
            ],
        }),
    },
    Rule {
        id: "Q11",
        argument: 3,
        figures: &["before-after"],
        title: "Removing an induction head undoes the phase change",
        paper: "the before-and-after attribution is negative for induction heads",
        rule: "2 layers, last snapshot, patterns kept: the change of all tokens' losses without a head, along the direction in which they changed over the window, as a share of that change. Reproduced if it is negative for every induction head (the weakest below 0) and most negative for one of them (the strongest less the strongest other below 0); partly if only one holds.",
        decide: "More examples under ablation, and more seeds.",
        judge: Judge::Runs(Experiment {
            needs: ablations::needs_ablated,
            partly: Partly::Any,
            why: ablations::undoing_in_words,
            tests: &[
                test("weakest induction head", Unit::Plain, ablations::weakest_undoing, Below(0.0)),
                test(
                    "strongest, less the strongest other",
                    Unit::Plain,
                    ablations::undoing_beyond_others,
                    Below(0.0),
                ),
            ],
        }),
    },
    Rule {
        id: "Q12",
        argument: 6,
        figures: &["A1"],
        title: "Induction heads lie in the last layer",
        paper: "the best prefix matching of attention-only models with 2 to 6 layers is in the last layer",
        rule: "Vanilla models of 3 layers or more (of 2 layers the second is the only one that can) whose best head ends above 0.3: the layer of that head. Reproduced if it is the last in all of them (100 %), partly if in at least 50 %.",
        decide: "`--scale full --seeds 3` for the deeper models, or `--scale gpu`: one model a depth is a draw.",
        judge: Judge::Runs(Experiment {
            needs: heads::needs_deep,
            partly: Partly::Weakly,
            why: heads::places_in_words,
            tests: &[graded(
                "share of models",
                Unit::Share,
                heads::share_in_last_layer,
                AtLeast(1.0),
                AtLeast(0.5),
            )],
        }),
    },
    Rule {
        id: "Q13",
        argument: 6,
        figures: &["A1"],
        title: "With MLPs, induction heads of 5- and 6-layer models lie in the second-to-last layer",
        paper: "the best prefix matching of models with MLPs and 5 or 6 layers is in the second-to-last layer",
        rule: "Models of 5 and 6 layers with MLPs whose best head ends above 0.3: the layer of that head. Reproduced if it is the second-to-last in all of them (100 %), partly if in at least 50 %.",
        decide: "Several seeds of 5 and 6 layers with MLPs, and more tokens, until their heads have come to rest.",
        judge: Judge::Runs(Experiment {
            needs: heads::needs_deep_with_mlps,
            partly: Partly::Weakly,
            why: heads::places_with_mlps_in_words,
            tests: &[graded(
                "share of models",
                Unit::Share,
                heads::share_in_second_to_last_layer,
                AtLeast(1.0),
                AtLeast(0.5),
            )],
        }),
    },
    Rule {
        id: "Q14",
        argument: 6,
        figures: &["A1"],
        title: "The deeper the model, the earlier in it its induction heads",
        paper: "in models of 24 and 40 layers most lie before the middle",
        rule: "Models with MLPs of 2 layers or more whose best head ends above 0.3, at least 3 depths of them: the rank correlation of depth with the place of the best head's layer (0 the bottom, 1 the top). Reproduced at -0.5 or less, partly below 0. The paper's own claim is about depths that are out of reach here.",
        decide: "Models of 10 layers and more: `--scale gpu`.",
        judge: Judge::Runs(Experiment {
            needs: heads::needs_depths,
            partly: Partly::Weakly,
            why: heads::depths_in_words,
            tests: &[graded("rho", Unit::Plain, heads::rho_depth, AtMost(-0.5), Below(0.0))],
        }),
    },
    Rule {
        id: "Q15",
        argument: 5,
        figures: &["A2"],
        title: "Heads that match prefixes are more likely to copy",
        paper: "positive prefix matching goes with positive copying",
        rule: "All heads at the last snapshot, of all seeds: more of those with prefix matching above 0.1 copy than of the others, by Fisher's one-sided test at 0.05: once by the copying score, half-way or more from chance to the ceiling of the head's rank, and once by an OV eigenvalue ratio above 0.5. Partly if only one holds. (The paper's limit, a score above 0, is beyond what a head of 32 dimensions can be expected to reach.)",
        decide: "More models: `--scale full`.",
        judge: Judge::Pooled(Experiment {
            needs: change::needs_two,
            partly: Partly::Any,
            why: heads::copying_in_words,
            tests: &[
                test("p by the score", Unit::Plain, heads::p_copying, Below(0.05)),
                test("p by the eigenvalues", Unit::Plain, heads::p_ov, Below(0.05)),
                test("rho", Unit::Plain, heads::rho_copying, Told),
            ],
        }),
    },
    Rule {
        id: "Q16",
        argument: 5,
        figures: &["A3", "A4"],
        title: "Copying and prefix matching can be told from the weights",
        paper: "copying goes with the OV circuit's eigenvalues, prefix matching with the QK circuit's trace: \"correlates well\"",
        rule: "All heads of attention-only models without smeared keys at the last snapshot, of all seeds: rank correlation of copying with the OV eigenvalue ratio, and (layers after the first) of prefix matching with the trace of the QK circuit's previous-token term. Reproduced if both are at least 0.5, partly if one is.",
        decide: "More models: `--scale full`.",
        judge: Judge::Pooled(Experiment {
            needs: change::needs_two,
            partly: Partly::Any,
            why: heads::circuits_in_words,
            tests: &[
                test("OV rho", Unit::Plain, heads::rho_ov, AtLeast(0.5)),
                test("QK rho", Unit::Plain, heads::rho_qk, AtLeast(0.5)),
            ],
        }),
    },
    Rule {
        id: "Q17",
        argument: 6,
        figures: &["C1"],
        title: "In-context learning is about the same in every model after the change",
        paper: "the ICL score is about -0.4 from 13M to 13B parameters, and stays there over training",
        rule: "Models of 2 layers or more with and without MLPs whose best head ends above 0.3, three or more of them: the standard deviation of their last same-token amounts of ICL over their mean below 0.2; and the middle one of their changes from the fitted step's end to the run's below 25 % of the last amount. Partly if only one holds.",
        decide: "Equal loss instead of equal tokens: give each depth the tokens until its amount has come to rest.",
        judge: Judge::Runs(Experiment {
            needs: series::needs_changed,
            partly: Partly::Any,
            why: series::spread_in_words,
            tests: &[
                test("spread", Unit::Plain, series::spread, Below(0.2)),
                test("after the window", Unit::Share, series::drift, Below(0.25)),
            ],
        }),
    },
    Rule {
        id: "Q18",
        argument: 6,
        figures: &["C3"],
        title: "Larger models gain most of their advantage in the first ten tokens",
        paper: "the majority; at later tokens the difference stays",
        rule: "The deepest vanilla model (3 layers or more) against 2 layers, last snapshot: how much lower its loss is around the tenth token, as a share of how much lower it is around the late index of the ICL score, which must be at least 0.02 nats. Reproduced from 50 %.",
        decide: "Models that differ in size by orders of magnitude (`--scale gpu` and `--scale paper`): among these six the deeper ones are hardly better.",
        judge: Judge::Runs(Experiment {
            needs: series::needs_advantage,
            partly: Partly::Never,
            why: series::advantage_in_words,
            tests: &[
                test("share", Unit::Share, series::early_share, AtLeast(0.5)),
                test(
                    "late advantage",
                    Unit::Nats,
                    series::late_advantage,
                    AtLeast(Q18_ADVANTAGE_FROM),
                ),
            ],
        }),
    },
    Rule {
        id: "Q19",
        argument: 6,
        figures: &["C4"],
        title: "Before the change small models learn faster, after it large ones",
        paper: "the order of d loss / d ln tokens inverts at the phase change",
        rule: "Vanilla models of 2 layers or more with a window, three or more of them: rank correlation of depth with d loss / d ln tokens (negative while learning) over the three-fold span before each model's window, and from its end to the learning rate's decay. Reproduced if at least 0.5 before and at most -0.5 after, partly if one holds.",
        decide: "Widths as well as depths, and the same time after each window for each model.",
        judge: Judge::Runs(Experiment {
            needs: series::needs_slopes,
            partly: Partly::Any,
            why: series::slopes_in_words,
            tests: &[
                test("before", Unit::Plain, series::rho_before, AtLeast(0.5)),
                test("after", Unit::Plain, series::rho_after, AtMost(-0.5)),
            ],
        }),
    },
    Rule {
        id: "Q20",
        argument: 4,
        figures: &["T1", "F14"],
        title: "A head matches patterns, not only tokens",
        paper: "about 65 % of the attention from the colon goes to right digits (chance: 25 % of that on digits)",
        rule: "Of all heads of all models on this text, at the end, the one with the largest share of its attention on the right digits, on lines whose two words are both new. Reproduced at 50 % or more if, of its attention on digits, what goes to right ones lies more than 10 % above both chance and what copying literally would give; partly if only the latter holds (0 % or more).",
        decide: "A model large enough to know months, fruits and colours as kinds, from English text: `--scale gpu` on a larger corpus, or `induction scan` on a trained one.",
        judge: Judge::Runs(Experiment {
            needs: heads::needs_prompts,
            partly: Partly::Weakly,
            why: heads::pattern_in_words,
            tests: &[
                graded(
                    "of all attention",
                    Unit::Share,
                    heads::pattern_share,
                    AtLeast(0.5),
                    AtLeast(0.0),
                ),
                test(
                    "beyond copying and chance, of that on digits",
                    Unit::Share,
                    heads::pattern_beyond_literal,
                    Above(0.1),
                ),
            ],
        }),
    },
    Rule {
        id: "Q21",
        argument: 1,
        figures: &["F3"],
        title: "Other text, same picture",
        paper: "the same series trained on books go through the same change",
        rule: "On the text with the most models beside the main one: 2 layers' best prefix matching ends more than 0.3 above 1 layer's, 1 layer ends with less than 50 % of its same-token ICL, and the middle of the head's step lies inside the window of the score (0 to 1). Partly if one of them holds.",
        decide: "More tokens on the second text; on books, the budget at which copying pays (the published law asks for 23M tokens).",
        judge: Judge::Runs(Experiment {
            needs: change::needs_other_text,
            partly: Partly::Any,
            why: change::elsewhere_in_words,
            tests: &[
                test(
                    "prefix matching beyond 1 layer",
                    Unit::Plain,
                    change::elsewhere_beyond_one,
                    Above(0.3),
                ),
                test("ICL of 1 layer", Unit::OfTwo, change::elsewhere_share, Below(0.5)),
                test("place in the window", Unit::Plain, change::elsewhere_place, Within(0.0, 1.0)),
            ],
        }),
    },
    Rule {
        id: "Q22",
        argument: 1,
        figures: &["F4", "C2"],
        title: "Before the change the loss is flat in the late context, after it it falls",
        paper: "flat after about the 50th token before the change, improving after it",
        rule: "2 layers: d loss / d ln index over the indices from the early one on (0.15 nats before and 0.2 after, spread over the factor of ten from index 50 to 500). Reproduced if at least -0.065 nats an e-fold at the window's start and at most -0.087 at its end; partly if one holds.",
        decide: "More evaluation examples.",
        judge: Judge::Runs(Experiment {
            needs: change::needs_two,
            partly: Partly::Any,
            why: change::slopes_in_words,
            tests: &[
                test("before", Unit::Slope, change::slope_before, AtLeast(-0.065)),
                test("after", Unit::Slope, change::slope_after, AtMost(-0.087)),
            ],
        }),
    },
    Rule {
        id: "Q23",
        argument: 6,
        figures: &["R-A2"],
        title: "Some heads of large models match prefixes and do the opposite of copying",
        paper: "in models of more than 16 layers",
        rule: "A trained model of more than 16 layers: a head with prefix matching above 0.3 and a copying score below -0.9 (a head that raises all tokens of the sample alike has -0.85). Partly if there is one with a copying score below 0, or the model has 16 layers or fewer. Fixed after SmolLM2-135M had been scanned, before any other model.",
        decide: "`induction scan MODEL --out DIR/models/NAME` of a trained model of more than 16 layers.",
        judge: Judge::Scan(models::q23),
    },
    Rule {
        id: "R1",
        argument: 5,
        figures: &["F11"],
        title: "Simple patterns do what these heads do",
        paper: "the ideal previous-token pattern recovers 99 %, \"after an earlier copy\" about 65 %, a match of two tokens 10 points more",
        rule: "2 layers, last snapshot: of the mean loss that removing a head costs, the share that a pattern made from the tokens alone wins back. At least 90 % for the strongest previous-token head, at least 50 % for the best induction head, and more with two matched tokens than with one (above 0 %); partly if one of the three holds.",
        decide: "Larger models, whose induction heads match more than one token.",
        judge: Judge::Runs(Experiment {
            needs: ablations::needs_ablated,
            partly: Partly::Any,
            why: ablations::recovered_in_words,
            tests: &[
                test("previous token", Unit::Share, ablations::recovered_previous, AtLeast(0.9)),
                test("one token", Unit::Share, ablations::recovered_one, AtLeast(0.5)),
                test("two tokens, beyond one", Unit::Share, ablations::recovered_gain, Above(0.0)),
            ],
        }),
    },
    Rule {
        id: "S1",
        argument: 3,
        figures: &["F11"],
        title: "All induction heads together, against as many others",
        paper: "not done; almost all in-context learning of small attention-only models comes from induction heads",
        rule: "2 layers, last snapshot, patterns kept: the share of the same-token amount of ICL that is lost without all induction heads. Reproduced above 50 % if every set of as many other heads, with prefix matching below 0.1 (of the same layers where there are enough), loses less (what they lose less, above 0 %); partly if only one holds.",
        decide: "More examples under ablation and more seeds.",
        judge: Judge::Runs(Experiment {
            needs: ablations::needs_ablated,
            partly: Partly::Any,
            why: ablations::sets_in_words,
            tests: &[
                test("share", Unit::Share, ablations::share_lost, Above(0.5)),
                test(
                    "beyond the largest control",
                    Unit::Share,
                    ablations::lost_beyond_controls,
                    Above(0.0),
                ),
            ],
        }),
    },
    Rule {
        id: "A1",
        argument: 3,
        figures: &["F11"],
        title: "Induction heads carry it from the change to the end of training",
        paper: "almost all in-context learning of small attention-only models, from the start of the phase change to the end of training",
        rule: "2 layers, patterns kept: the least of the induction heads' shares of all heads' changes of the same-token score (as in Q10) over the snapshots with removals from the window's end on. Reproduced above 50 %, partly above 25 %.",
        decide: "Removals at more snapshots (evaluation.ablation_every).",
        judge: Judge::Runs(Experiment {
            needs: ablations::needs_ablated,
            partly: Partly::Weakly,
            why: ablations::along_in_words,
            tests: &[graded(
                "least share",
                Unit::Share,
                ablations::least_share_along,
                Above(0.5),
                Above(0.25),
            )],
        }),
    },
    Rule {
        id: "A2",
        argument: 3,
        figures: &["F11"],
        title: "The same in 3 layers, and with MLPs",
        paper: "almost all in attention-only models; with MLPs the evidence is weaker",
        rule: "3 layers, and 2 layers with MLPs, last snapshot, patterns kept: the induction heads' share of all heads' changes of the same-token score (as in Q10). Reproduced if above 50 % in both, partly if in one.",
        decide: "More seeds of 3 layers and of 2 layers with MLPs.",
        judge: Judge::Runs(Experiment {
            needs: ablations::needs_others_ablated,
            partly: Partly::Any,
            why: ablations::others_in_words,
            tests: &[
                test("3 layers", Unit::Share, ablations::share_in_three, Above(0.5)),
                test("2 layers with MLPs", Unit::Share, ablations::share_with_mlps, Above(0.5)),
            ],
        }),
    },
    Rule {
        id: "A3",
        argument: 3,
        figures: &["F11"],
        title: "The same however a head is taken out",
        paper: "not done; the paper removes by zero",
        rule: "2 layers, last snapshot, patterns kept: the induction heads' share of all heads' changes of the same-token score (as in Q10) where each head's output is replaced by its mean over examples, and where by that in another example. Reproduced if above 50 % for both, partly if for one.",
        decide: "More examples under ablation, and more seeds.",
        judge: Judge::Runs(Experiment {
            needs: ablations::needs_ablated,
            partly: Partly::Any,
            why: ablations::fills_in_words,
            tests: &[
                test("mean", Unit::Share, ablations::share_by_mean, Above(0.5)),
                test("resample", Unit::Share, ablations::share_by_resample, Above(0.5)),
            ],
        }),
    },
    Rule {
        id: "A4",
        argument: 3,
        figures: &["F11"],
        title: "The more a head matches prefixes, the more its removal costs",
        paper: "induction heads contribute, most others do not",
        rule: "Heads after the first layer of attention-only models without smeared keys, of all seeds, last snapshot, patterns kept: the rank correlation of prefix matching with the change of the same-token score without the head. Reproduced above 0.5, partly above 0.25.",
        decide: "More models: `--scale full`.",
        judge: Judge::Pooled(Experiment {
            needs: heads::needs_doses,
            partly: Partly::Weakly,
            why: heads::doses_in_words,
            tests: &[graded("rho", Unit::Plain, heads::rho_dose, Above(0.5), Above(0.25))],
        }),
    },
    Rule {
        id: "K1",
        argument: 5,
        figures: &["F11"],
        title: "The induction head reads the previous-token heads through its keys",
        paper: "K-composition (argument 5)",
        rule: "2 layers, last snapshot: taking what the previous-token heads write out of the best induction head's keys alone costs more than 50 % of what removing that induction head costs in same-token ICL, and more than any other cut into it (what it costs more, above 0 %). Partly if only one holds.",
        decide: "More examples under ablation and more seeds.",
        judge: Judge::Runs(Experiment {
            needs: ablations::needs_ablated,
            partly: Partly::Any,
            why: ablations::paths_in_words,
            tests: &[
                test("keys", Unit::Share, ablations::share_through_keys, Above(0.5)),
                test("beyond the next cut", Unit::Share, ablations::keys_beyond_others, Above(0.0)),
            ],
        }),
    },
    Rule {
        id: "K2",
        argument: 5,
        figures: &["progress"],
        title: "The previous-token head comes first, then the circuit",
        paper: "not shown over training; the circuit needs the previous-token head",
        rule: "2 layers: the highest previous-token score below the best induction head reaches half its end (above 0.3) before the highest prefix matching does (the ratio of the times below 1), and what the best head's keys recall through K-composition is half-way between half a window's width before the window of the score and its end (-0.5 to 1). Partly if only one holds.",
        decide: "Denser snapshots around the window, more seeds.",
        judge: Judge::Runs(Experiment {
            needs: change::needs_two,
            partly: Partly::Any,
            why: ablations::progress_in_words,
            tests: &[
                test(
                    "previous token to prefix matching",
                    Unit::Plain,
                    ablations::previous_to_matching,
                    Below(1.0),
                ),
                test(
                    "K-composition, place in the window",
                    Unit::Plain,
                    ablations::composition_place,
                    Within(-0.5, 1.0),
                ),
            ],
        }),
    },
    Rule {
        id: "L1",
        argument: 1,
        figures: &["copies"],
        title: "The change is in the tokens that an earlier copy foretells",
        paper: "shown on examples: tokens that repeat get cheaper",
        rule: "2 layers, from the window's start to its end: the mean loss of the tokens that stood after an earlier copy of the token before them falls by more than 0.1 nats, and that of the others by less than 50 % of it. Partly if only one holds.",
        decide: "More evaluation examples and seeds.",
        judge: Judge::Runs(Experiment {
            needs: change::needs_two,
            partly: Partly::Any,
            why: change::falls_in_words,
            tests: &[
                test("foretold tokens", Unit::Nats, change::foretold_fall, Above(0.1)),
                test("others", Unit::Share, change::others_share_of_fall, Below(0.5)),
            ],
        }),
    },
    Rule {
        id: "N1",
        argument: 1,
        figures: &["controls"],
        title: "On shuffled text the change does not come",
        paper: "not done; a negative control",
        rule: "2 layers on the same text with each document's tokens shuffled, where the real text brings the change: no head's prefix matching ever above 0.15, and no step in the score (1 if there is one, below 0.5). Partly if only one holds.",
        decide: "More seeds of the control.",
        judge: Judge::Runs(Experiment {
            needs: controls::needs_shuffled,
            partly: Partly::Any,
            why: controls::shuffled_in_words,
            tests: &[
                test(
                    "highest prefix matching",
                    Unit::Plain,
                    controls::shuffled_matching,
                    Below(0.15),
                ),
                test("windows", Unit::Plain, controls::shuffled_window, Below(0.5)),
            ],
        }),
    },
    Rule {
        id: "N2",
        argument: 1,
        figures: &["controls"],
        title: "On text in which nothing repeats the change does not come",
        paper: "not done; a negative control",
        rule: "2 layers on windows made of pieces of 12 to 16 tokens from all over the same text, where the real text brings the change: no head's prefix matching ever above 0.15, and no step in the score (1 if there is one, below 0.5). Partly if only one holds.",
        decide: "More seeds of the control.",
        judge: Judge::Runs(Experiment {
            needs: controls::needs_fragments,
            partly: Partly::Any,
            why: controls::fragments_in_words,
            tests: &[
                test(
                    "highest prefix matching",
                    Unit::Plain,
                    controls::fragments_matching,
                    Below(0.15),
                ),
                test("windows", Unit::Plain, controls::fragments_window, Below(0.5)),
            ],
        }),
    },
    Rule {
        id: "P1",
        argument: 2,
        figures: &["clamps"],
        title: "A previous-token head given from the start brings the change earlier",
        paper: "not done; argument 2 by intervention",
        rule: "2 layers with a head of the first layer clamped to the previous token, in training and after: the highest prefix matching reaches half its end earlier than without (the ratio of the times below 1; both ending above 0.3).",
        decide: "Several seeds of the clamped model.",
        judge: Judge::Runs(Experiment {
            needs: ablations::needs_given,
            partly: Partly::Never,
            why: ablations::given_in_words,
            tests: &[test(
                "half time, given to vanilla",
                Unit::Plain,
                ablations::half_time_given,
                Below(1.0),
            )],
        }),
    },
    Rule {
        id: "P2",
        argument: 2,
        figures: &["clamps"],
        title: "Without attention to what followed a copy the change does not come",
        paper: "not done; argument 2 by intervention",
        rule: "2 layers, every head forbidden to attend to what followed an earlier copy of the token, in training and after, where the free model changes: no step in the score (1 if there is one, below 0.5), and less than 50 % of the free model's same-token ICL at the end. Partly if only one holds.",
        decide: "Several seeds of the clamped model.",
        judge: Judge::Runs(Experiment {
            needs: ablations::needs_without,
            partly: Partly::Any,
            why: ablations::without_in_words,
            tests: &[
                test("windows", Unit::Plain, ablations::window_without, Below(0.5)),
                test("ICL", Unit::OfTwo, ablations::share_without, Below(0.5)),
            ],
        }),
    },
    Rule {
        id: "M4",
        argument: 4,
        figures: &["R-T2", "R-F12", "R-F13", "R-F14"],
        title: "In a real model, heads that match prefixes copy literally, translate and match patterns",
        paper: "the same heads do all three; one gives 65 % of its attention to the right class (25 % by chance)",
        rule: "A trained model: for each of the three behaviours, of the heads with prefix matching above 0.3, the one with the largest share of its attention on right places. It holds if that share is more than 2 times chance and, of its attention on places of the right kind, what goes to right ones lies above chance by more than 2 standard errors. Reproduced if all three hold, partly if one or two do. Fixed after SmolLM2-135M had been scanned, before any other model.",
        decide: "`induction scan MODEL --out DIR/models/NAME` of a trained model that knows the languages and kinds of words of the prompts.",
        judge: Judge::Scan(models::m4),
    },
    Rule {
        id: "M6",
        argument: 6,
        figures: &["R-A1", "R-repeats", "R-removed"],
        title: "A real model has the same heads, and without them it no longer copies repeats",
        paper: "the same measurements on models up to 13 billion parameters; nothing removed there",
        rule: "A trained model: the best prefix matching is at least 0.5; on repeated random tokens the loss of the second copy is below 50 % of the first's; and without all heads with prefix matching above 0.3 the second copy's loss rises, at least 3 times as much as without any set of as many random heads of the same layers (of any layer, where these have too few). Partly if one or two hold. Fixed after SmolLM2-135M had been scanned, before any other model.",
        decide: "`induction scan MODEL --out DIR/models/NAME` of a trained model.",
        judge: Judge::Scan(models::m6),
    },
];
