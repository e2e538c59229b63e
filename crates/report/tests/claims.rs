//! Every verdict of every claim, from fabricated runs.

mod common;

use common::{Fabricated, all, deep, families, one, one_smeared, scan, two, two_smeared, write_all, write_scan};
use induction_report::{Claim, RULES, Verdict, claims, load_runs, load_scans};
use serde_json::{Value, json};

fn judged(runs: &[Fabricated]) -> Vec<Claim> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    write_all(dir.path(), runs);
    claims(&load_runs(dir.path()).expect("sound runs"), &[])
}

fn claim(runs: &[Fabricated], id: &str) -> Claim {
    judged(runs).into_iter().find(|claim| claim.id == id).expect("a claim of the table")
}

#[track_caller]
fn expect(runs: &[Fabricated], id: &str, verdict: Verdict, why: &str) {
    let claim = claim(runs, id);
    assert_eq!(claim.verdict, verdict, "{claim:#?}");
    assert!(claim.why.contains(why), "expected {why:?} in {claim:#?}");
}

/// The whole experiment with another 2-layer run.
fn with_two(change: impl Fn(&mut Fabricated)) -> Vec<Fabricated> {
    let mut runs = all();
    change(&mut runs[1]);
    runs
}

#[test]
fn a_perfect_experiment_reproduces_everything() {
    let sharp = [with_two(|two| two.before = 0.04), families()].concat();
    let dir = tempfile::tempdir().expect("a temporary folder");
    write_all(dir.path(), &sharp);
    write_scan(dir.path(), "tiny", &scan());
    let scans = load_scans(dir.path()).expect("a sound scan");
    let claims = claims(&load_runs(dir.path()).expect("sound runs"), &scans);
    assert_eq!(claims.len(), RULES.len());
    for claim in claims {
        assert_eq!(claim.verdict, Verdict::Reproduced, "{claim:#?}");
        assert!(claim.why.contains("One seed") || claim.why.contains("One model"), "{claim:#?}");
    }
}

#[test]
fn q1_little_before() {
    expect(&with_two(|two| two.before = 0.08), "Q1", Verdict::Reproduced, "nats of ICL");
    expect(&with_two(|two| (two.before, two.after, two.rise) = (0.18, 0.5, 0.0)), "Q1", Verdict::Partly, "nats of ICL");
    expect(&with_two(|two| (two.before, two.after, two.rise) = (0.3, 0.7, 0.0)), "Q1", Verdict::Not, "nats of ICL");
}

#[test]
fn q1_says_when_it_is_inside_the_noise() {
    let runs = with_two(|two| (two.before, two.stderr, two.rise) = (0.12, 0.02, 0.0));
    let claim = claim(&runs, "Q1");
    assert!(claim.why.contains("inside the noise") && claim.why.contains("limit of 0.15 nats"), "{claim:#?}");
    assert!(claim.interval.is_some_and(|interval| interval.ends_with(" nats")));
}

#[test]
fn a_single_example_has_no_interval() {
    let claim = claim(&with_two(|two| two.stderr = 0.0), "Q1");
    assert!(claim.interval.is_none() && claim.why.contains("One evaluation example"), "{claim:#?}");
}

#[test]
fn q2_full_strength_after() {
    expect(&with_two(|_| {}), "Q2", Verdict::Reproduced, "the run ends with 0.42");
    expect(&with_two(|two| (two.before, two.after) = (0.03, 0.16)), "Q2", Verdict::Partly, "window ends");
    expect(&with_two(|two| two.after = 1.2), "Q2", Verdict::Partly, "window ends");
    expect(&with_two(|two| (two.before, two.after) = (0.0, 0.09)), "Q2", Verdict::Not, "window ends");
}

#[test]
fn q3_most_forms_in_the_window() {
    expect(&with_two(|two| two.before = 0.02), "Q3", Verdict::Reproduced, "inside the window");
    expect(&with_two(|two| (two.before, two.rise) = (0.12, 0.0)), "Q3", Verdict::Partly, "inside the window");
    expect(
        &with_two(|two| (two.before, two.after, two.rise) = (0.3, 0.5, 0.0)),
        "Q3",
        Verdict::Not,
        "inside the window",
    );
}

#[test]
fn q4_narrow_and_after_the_warm_up() {
    expect(&with_two(|_| {}), "Q4", Verdict::Reproduced, "after the warm-up's end at 500k");
    expect(&with_two(|two| two.warmup_steps = 300), "Q4", Verdict::Partly, "starts at the warm-up's end");
    let slow = |width: f64| {
        with_two(move |two| (two.middle, two.width, two.before, two.rise, two.ramp) = (5e6, width, 0.02, 0.0, true))
    };
    expect(&slow(1.7e6), "Q4", Verdict::Partly, "of the run");
    // A descent over more than half of the run is no window for the metric already.
    expect(&slow(3e6), "Q4", Verdict::Not, "no phase-change window");
}

#[test]
fn a_drop_within_the_noise_of_a_change_is_no_window() {
    // The same curve, and examples that differ by nats in both: only the noise of the changes decides.
    expect(&with_two(|two| two.change_noise = 0.1), "Q4", Verdict::Reproduced, "of the run");
    expect(&with_two(|two| two.change_noise = 3.0), "Q4", Verdict::Not, "standard errors of such a change");
}

#[test]
fn without_a_window_the_claims_about_it_fail() {
    let flat = with_two(|two| (two.before, two.after) = (0.02, 0.02));
    for id in ["Q1", "Q2", "Q3", "Q4", "Q6"] {
        expect(&flat, id, Verdict::Not, "no phase-change window");
    }
}

#[test]
fn q5_one_layer_stays_behind() {
    let with_one = |change: fn(&mut Fabricated)| {
        let mut runs = all();
        change(&mut runs[0]);
        runs
    };
    expect(&with_one(|_| {}), "Q5", Verdict::Reproduced, "below the limit of 0.20");
    expect(&with_one(|one| one.after = 0.3), "Q5", Verdict::Partly, "below the limit of 0.20");
    expect(&with_one(|one| one.prefix_matching = 0.6), "Q5", Verdict::Partly, "not below the limit of 0.20");
    expect(&with_one(|one| (one.after, one.prefix_matching) = (0.3, 0.6)), "Q5", Verdict::Not, "of 2 layers");
}

#[test]
fn q5_needs_in_context_learning_to_compare_with() {
    let runs = with_two(|two| (two.before, two.after) = (-0.05, -0.05));
    expect(&runs, "Q5", Verdict::Partly, "no ICL");
}

#[test]
fn q6_heads_form_in_the_window() {
    expect(&with_two(|_| {}), "Q6", Verdict::Reproduced, "inside the window");
    expect(&with_two(|two| two.head_middle = 4.2e6), "Q6", Verdict::Partly, "outside the window");
    expect(&with_two(|two| two.head_middle = 7e6), "Q6", Verdict::Not, "outside the window");
    expect(&with_two(|two| two.prefix_matching = 0.25), "Q6", Verdict::Not, "no head ends above 0.30");
}

#[test]
fn q7_a_bump_and_a_parting() {
    expect(&with_two(|_| {}), "Q7", Verdict::Reproduced, "overlapping the window");
    // Elsewhere: what the loss does follows its own time here. (Leaving the other curve is a small bump by itself.)
    let late = |two: &mut Fabricated| (two.bump, two.leaves_at) = (4.0, Some(7e6));
    expect(&with_two(late), "Q7", Verdict::Partly, "is there at 6.89M");
    // A bump that 1 layer has too does not part the curves.
    let away = |runs: Vec<Fabricated>| -> Vec<Fabricated> {
        let moved = |run: Fabricated| Fabricated { bump: 4.0, bump_at: Some(8e6), ..run };
        runs.into_iter().map(moved).collect()
    };
    expect(&away(all()), "Q7", Verdict::Partly, "away from the window");
    expect(&away(with_two(late)), "Q7", Verdict::Not, "away from the window");
}

#[test]
fn q8_the_paths_turn() {
    expect(&with_two(|_| {}), "Q8", Verdict::Reproduced, "turns by 90 degrees");
    expect(&with_two(|two| two.turn = 20.0), "Q8", Verdict::Partly, "turns by 20 degrees");
    let mut both = with_two(|_| {});
    both[0].turn = 120.0;
    expect(&both, "Q8", Verdict::Partly, "that of 1 layer by 120");
    let mut neither = with_two(|two| two.turn = 20.0);
    neither[0].turn = 40.0;
    expect(&neither, "Q8", Verdict::Not, "turns by 20 degrees");
}

#[test]
fn q12_the_layer_of_the_best_head() {
    expect(&with_two(|_| {}), "Q12", Verdict::Reproduced, "head 1.1");
    expect(&with_two(|two| two.head_layer = Some(0)), "Q12", Verdict::Not, "head 0.1");
    let mut deeper = with_two(|two| two.head_layer = Some(0));
    deeper.push(Fabricated { folder: "e-3L".to_string(), n_layers: 3, ..two() });
    expect(&deeper, "Q12", Verdict::Partly, "head 2.1");
    expect(&with_two(|two| two.prefix_matching = 0.2), "Q12", Verdict::Not, "No vanilla model ends");
}

#[test]
fn q15_and_q16_scores_that_go_together() {
    expect(&all(), "Q15", Verdict::Reproduced, "6 heads");
    expect(&all(), "Q16", Verdict::Reproduced, "rank correlation");
    let against: Vec<Fabricated> = all().into_iter().map(|run| Fabricated { copying: -0.6, ..run }).collect();
    expect(&against, "Q15", Verdict::Not, "0 copy");
    // The two scores of the same thing still go together, whatever copying does.
    expect(&against, "Q16", Verdict::Reproduced, "rank correlation");
}

#[test]
fn q22_the_late_context_comes_to_matter() {
    expect(&with_two(|_| {}), "Q22", Verdict::Reproduced, "nats an e-fold");
    expect(&with_two(|two| (two.before, two.rise) = (0.15, 0.0)), "Q22", Verdict::Partly, "nats an e-fold");
    expect(&with_two(|two| (two.before, two.after, two.rise) = (0.3, 0.5, 0.0)), "Q22", Verdict::Not, "nats an e-fold");
}

#[test]
fn intervals_come_from_the_examples() {
    let width = |spread: f64| {
        let claim = claim(&with_two(|two| two.spread = spread), "Q2");
        let text = claim.interval.expect("several examples");
        let ends: Vec<f64> = text.split(' ').filter_map(|word| word.parse().ok()).collect();
        assert!(ends[0] < 0.42 && 0.39 < ends[1], "{text}");
        ends[1] - ends[0]
    };
    // 16 examples in equal steps of 0.1: a standard error of 0.1 sqrt(255 / 12 / 16), and 3.9 of those in 95 %.
    let expected = 0.1 * (255.0f64 / 12.0 / 16.0).sqrt() * 2.0 * 1.96;
    assert!((width(0.1) / expected - 1.0).abs() < 0.15, "{} is not {expected}", width(0.1));
    assert!(width(0.01) < 0.2 * width(0.1));
}

#[test]
fn q9_smeared_keys() {
    let smeared = |change: fn(&mut Fabricated, &mut Fabricated)| {
        let mut runs = [one_smeared(), two_smeared()];
        let [a, b] = &mut runs;
        change(a, b);
        [vec![one(), two()], runs.to_vec()].concat()
    };
    expect(&smeared(|_, _| {}), "Q9", Verdict::Reproduced, "half-way at 1.79M tokens with smeared keys");
    expect(&smeared(|one, _| one.after = 0.2), "Q9", Verdict::Partly, "of the 0.42 of 2 layers");
    expect(&smeared(|_, two| two.head_middle = 5e6), "Q9", Verdict::Partly, "half-way");
    expect(&smeared(|_, two| two.prefix_matching = 0.1), "Q9", Verdict::Partly, "when it formed means nothing");
    expect(&smeared(|one, two| (one.after, two.head_middle) = (0.2, 5e6)), "Q9", Verdict::Not, "half-way");
    expect(&smeared(|_, two| two.head_middle = 2.98e6), "Q9", Verdict::Reproduced, "inside the resolution");
}

#[test]
fn a_missing_run_is_out_of_reach_and_named() {
    let without = |index: usize| {
        let mut runs = all();
        runs.remove(index);
        runs
    };
    // Any model of text can be asked to match patterns.
    for rule in RULES.iter().filter(|rule| rule.id != "Q20") {
        let words = match rule.id {
            "Q13" | "Q17" | "Q19" | "Q21" => "--scale full",
            "Q23" | "M4" | "M6" => "induction scan MODEL",
            _ => "is missing",
        };
        expect(&without(1), rule.id, Verdict::OutOfReach, words);
    }
    expect(&without(0), "Q5", Verdict::OutOfReach, "1-layer vanilla run");
    expect(&without(2), "Q9", Verdict::OutOfReach, "1-layer smeared-key run");
    expect(&without(3), "Q9", Verdict::OutOfReach, "2-layer smeared-key run");
    expect(&without(3), "Q6", Verdict::Reproduced, "");
}

#[test]
fn parts_are_told_by_content() {
    // Names that lie.
    let mut runs = all();
    for (run, name) in runs.iter_mut().zip(["2L", "1L", "2L-smeared", "1L-smeared"]) {
        run.folder = name.to_string();
    }
    let clean = judged(&runs);
    assert_eq!(clean, judged(&all()));
    // A run on other data has a claim of its own and touches no other.
    runs.push(Fabricated { folder: "0-synthetic".to_string(), source: "repeats".to_string(), after: 3.0, ..two() });
    let others = |claims: Vec<Claim>| claims.into_iter().filter(|claim| claim.id != "Q21").collect::<Vec<_>>();
    assert_eq!(others(judged(&runs)), others(clean));

    let mlp = [Fabricated { d_mlp: 512, ..two() }];
    expect(&mlp, "Q1", Verdict::OutOfReach, "2-layer vanilla run");
}

/// The whole experiment with other families.
fn with_families(change: impl Fn(&mut Fabricated)) -> Vec<Fabricated> {
    let mut others = families();
    others.iter_mut().for_each(change);
    [all(), others].concat()
}

#[test]
fn q13_second_to_last_with_mlps() {
    let mlps = |change: fn(&mut Fabricated)| {
        with_families(|run| {
            if run.d_mlp > 0 {
                change(run);
            }
        })
    };
    expect(&mlps(|_| {}), "Q13", Verdict::Reproduced, "5 layers, MLPs: head 3.1");
    expect(&mlps(|run| run.head_layer = Some(4)), "Q13", Verdict::Partly, "6 layers, MLPs: head 4.1");
    expect(&mlps(|run| run.head_layer = Some(0)), "Q13", Verdict::Not, "head 0.1");
    expect(&mlps(|run| run.prefix_matching = 0.2), "Q13", Verdict::OutOfReach, "More tokens would decide it");
}

#[test]
fn q17_about_the_same_everywhere() {
    let deeper = |change: fn(&mut Fabricated)| {
        with_families(|run| {
            if run.folder.starts_with(['g', 'h']) {
                change(run);
            }
        })
    };
    expect(&deeper(|_| {}), "Q17", Verdict::Reproduced, "6 layers, MLPs 0.42");
    expect(&deeper(|run| run.after = 1.2), "Q17", Verdict::Partly, "standard deviation");
    let drifting = with_families(|_| {}).into_iter().map(|run| Fabricated { drift: 0.5, ..run }).collect::<Vec<_>>();
    expect(&drifting, "Q17", Verdict::Partly, "After the window");
    expect(&all(), "Q17", Verdict::OutOfReach, "1 models of 2 layers or more");
}

#[test]
fn q18_the_first_tokens() {
    expect(&with_families(|_| {}), "Q18", Verdict::Reproduced, "5 layers have a loss that is 0.336 nats below");
    // As good at first, and better late in the context.
    expect(
        &[all(), vec![Fabricated { ahead: 0.0, after: 0.8, ..deep(3) }]].concat(),
        "Q18",
        Verdict::Not,
        "around the late",
    );
    expect(&[all(), vec![Fabricated { ahead: -0.1, ..deep(3) }]].concat(), "Q18", Verdict::Not, "below");
    expect(&all(), "Q18", Verdict::OutOfReach, "3 layers or more");
}

#[test]
fn q19_the_order_of_speeds_inverts() {
    expect(&with_families(|_| {}), "Q19", Verdict::Reproduced, "2 layers");
    expect(&with_families(|run| run.slopes[0] *= -1.0), "Q19", Verdict::Partly, "before");
    expect(&with_families(|run| run.slopes = run.slopes.map(|slope| -slope)), "Q19", Verdict::Not, "after");
    expect(&[all(), vec![deep(3)]].concat(), "Q19", Verdict::OutOfReach, "2 vanilla models");
}

#[test]
fn q21_on_other_text() {
    let elsewhere = |change: fn(&mut Fabricated)| {
        with_families(|run| {
            if run.folder.starts_with('i') {
                change(run);
            }
        })
    };
    expect(&elsewhere(|_| {}), "Q21", Verdict::Reproduced, "Q5 reproduced");
    expect(&elsewhere(|run| run.head_middle = 7e6), "Q21", Verdict::Partly, "Q6 not reproduced");
    let flat = elsewhere(|run| (run.before, run.after, run.prefix_matching) = (0.02, 0.02, 0.25));
    expect(&flat, "Q21", Verdict::Not, "no window");
}

#[test]
fn other_data_is_not_compared() {
    let runs = [Fabricated { source: "repeats".to_string(), ..one() }, two()];
    expect(&runs, "Q5", Verdict::OutOfReach, "on this data is missing");
}

#[test]
fn the_lowest_seed_decides_and_the_others_are_told() {
    let worse = Fabricated { folder: "0-other".to_string(), seed: 3, before: 0.18, after: 0.5, rise: 0.0, ..two() };
    expect(&[two(), worse], "Q1", Verdict::Reproduced, "Other seeds, same rule: seed 3: 0.20 nats, partly reproduced.");
}

#[test]
fn an_unfinished_run_says_so() {
    let runs = with_two(|two| two.train_tokens = 40_000_000);
    expect(&runs, "Q2", Verdict::Reproduced, "measured up to 10.0M of 40.0M tokens only");
}

#[test]
fn the_words_of_a_rule_hold_its_limits() {
    let limits = [
        ("Q1", vec!["0.15", "0.25"]),
        ("Q2", vec!["0.2 to 0.8", "0.1"]),
        ("Q3", vec!["75 %", "50 %"]),
        ("Q4", vec!["25 %", "50 %"]),
        ("Q5", vec!["0.2", "50 %"]),
        ("Q6", vec!["0.3", "one window"]),
        ("Q7", vec!["2 times", "half of the final gap"]),
        ("Q8", vec!["45 degrees"]),
        ("Q9", vec!["75 %", "0.3"]),
        ("Q10", vec!["50 %", "0.3"]),
        ("Q11", vec!["negative"]),
        ("Q12", vec!["0.3", "50 %"]),
        ("Q13", vec!["0.3", "50 %"]),
        ("Q15", vec!["0.1", "0.05", "above 0"]),
        ("Q16", vec!["0.5"]),
        ("Q17", vec!["0.2", "25 %", "three"]),
        ("Q18", vec!["50 %"]),
        ("Q19", vec!["0.5 before", "-0.5 after", "three"]),
        ("Q20", vec!["50 %", "10 points"]),
        ("Q21", vec!["Q5", "Q6"]),
        ("Q22", vec!["-0.065", "-0.087", "2 times"]),
        ("Q23", vec!["16 layers", "0.3", "-0.9", "below 0"]),
        ("R1", vec!["90 %", "50 %"]),
        ("S1", vec!["50 %"]),
        ("K1", vec!["50 %"]),
        ("P1", vec!["0.3", "earlier"]),
        ("P2", vec!["50 %", "no phase-change window"]),
        ("M4", vec!["0.3", "2 times chance", "2 standard errors"]),
        ("M6", vec!["0.5", "50 %", "0.3", "3 times"]),
    ];
    assert!(limits.iter().all(|(id, _)| RULES.iter().any(|rule| rule.id == *id)));
    for rule in RULES {
        // Where they are not said otherwise, the numbers themselves.
        let known = limits.iter().find(|(id, _)| *id == rule.id);
        let words =
            known.map_or_else(|| rule.limits(), |(_, words)| words.iter().map(|word| word.to_string()).collect());
        assert!(words.iter().all(|word| rule.rule.contains(word.as_str())), "{}: {words:?}: {}", rule.id, rule.rule);
    }
}

#[test]
fn q20_a_head_matches_patterns() {
    let all_of =
        |pattern: Option<[f64; 2]>| all().into_iter().map(|run| Fabricated { pattern, ..run }).collect::<Vec<_>>();
    expect(&all_of(Some([0.65, 0.8])), "Q20", Verdict::Reproduced, "65 % of its attention goes to right digits");
    expect(&all_of(Some([0.2, 0.4])), "Q20", Verdict::Partly, "40 % of what goes to digits");
    expect(&all_of(Some([0.2, 0.3])), "Q20", Verdict::Not, "25 % if spread over them");
    expect(&all_of(None), "Q20", Verdict::OutOfReach, "read the prompts");
    let claim = claim(&all(), "Q20");
    assert!(claim.interval.is_some_and(|interval| interval.contains("63 % to 67 %")));
}

#[test]
fn q10_induction_heads_carry_it() {
    expect(&with_two(|_| {}), "Q10", Verdict::Reproduced, "6 of 6 other heads contribute nothing or less");
    expect(&with_two(|two| two.effects = [0.1, 0.01]), "Q10", Verdict::Partly, "0 of 6 other heads");
    expect(&with_two(|two| two.effects = [0.02, 0.05]), "Q10", Verdict::Not, "0 of 6 other heads");
    expect(&with_two(|two| two.prefix_matching = 0.2), "Q10", Verdict::Not, "No head");
    expect(&[one()], "Q10", Verdict::OutOfReach, "missing");
    let claim = claim(&all(), "Q10");
    assert!(claim.interval.is_some() && claim.why.contains("p = 0.016"), "{claim:#?}");
}

#[test]
fn q11_removal_undoes_the_change() {
    expect(&with_two(|_| {}), "Q11", Verdict::Reproduced, "(induction) -");
    expect(&with_two(|two| two.undoing = [0.5, 0.6]), "Q11", Verdict::Partly, "(induction) -");
    expect(&with_two(|two| two.undoing = [-0.5, 0.1]), "Q11", Verdict::Not, "(induction) +");
}

#[test]
fn s1_sets_against_controls() {
    expect(&with_two(|_| {}), "S1", Verdict::Reproduced, "induction heads 1.1, 1.2");
    expect(
        &with_two(|two| two.sets = [0.4, 0.1]),
        "S1",
        Verdict::Partly,
        "of the same layers 10 % on average over 1 set",
    );
    expect(&with_two(|two| two.sets = [0.6, 0.7]), "S1", Verdict::Partly, "70 %");
    expect(&with_two(|two| two.sets = [0.1, 0.2]), "S1", Verdict::Not, "20 %");
}

#[test]
fn r1_patterns_recover() {
    expect(&with_two(|_| {}), "R1", Verdict::Reproduced, "10 points more");
    expect(&with_two(|two| two.recovered = [0.8, 0.6, 0.7]), "R1", Verdict::Partly, "(head 0.0): 80 %");
    expect(&with_two(|two| two.recovered = [0.8, 0.3, 0.7]), "R1", Verdict::Not, "(head 1.1): 30 %");
}

#[test]
fn k1_the_path_is_the_keys() {
    expect(&with_two(|_| {}), "K1", Verdict::Reproduced, "head 0.0 adds to head 1.1's keys costs 90 %");
    expect(&with_two(|two| two.paths = [0.4, 0.1]), "K1", Verdict::Partly, "costs 40 %");
    expect(&with_two(|two| two.paths = [0.6, 0.7]), "K1", Verdict::Partly, "the largest other cut 70 %");
    expect(&with_two(|two| two.paths = [0.1, 0.2]), "K1", Verdict::Not, "costs 10 %");
}

#[test]
fn p1_and_p2_clamps() {
    expect(&all(), "P1", Verdict::Reproduced, "half-way at 1.49M tokens");
    let with = |change: &dyn Fn(&mut Fabricated)| {
        let mut runs = all();
        runs.iter_mut().filter(|run| run.clamp.is_some()).for_each(change);
        runs
    };
    expect(&with(&|run| run.head_middle = 4e6), "P1", Verdict::Not, "half-way at 3.99M tokens");
    expect(&with(&|run| run.prefix_matching = 0.1), "P1", Verdict::Not, "both must pass");
    expect(&all(), "P2", Verdict::Reproduced, "no window");
    expect(&with(&|run| (run.after, run.before) = (0.2, 0.05)), "P2", Verdict::Partly, "still has a window");
    expect(&with(&|run| run.after = 0.4), "P2", Verdict::Not, "still has a window");
}

/// The claims about real models, from these alone.
fn of_models(scans: &[(&str, Value)]) -> Vec<Claim> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (name, scan) in scans {
        write_scan(dir.path(), name, scan);
    }
    claims(&[], &load_scans(dir.path()).expect("sound scans"))
}

#[track_caller]
fn expect_of(scan: &Value, id: &str, verdict: Verdict, why: &str) -> Claim {
    let claim = of_models(&[("tiny", scan.clone())]).into_iter().find(|claim| claim.id == id).expect("a claim");
    assert_eq!(claim.verdict, verdict, "{claim:#?}");
    assert!(claim.why.contains(why), "expected {why:?} in {claim:#?}");
    claim
}

/// A scan with every row of a list changed.
fn with_rows(list: &str, change: impl Fn(&mut Value)) -> Value {
    let mut scan = scan();
    scan[list].as_array_mut().expect("a list").iter_mut().for_each(change);
    scan
}

#[test]
fn m4_the_same_heads_do_all_three() {
    let claim = expect_of(&scan(), "M4", Verdict::Reproduced, "translation holds, head 10.1: 60 %");
    assert!(claim.interval.is_some_and(|interval| interval.contains("translation 56 % to 64 %")));
    let best = |row: &Value| (row["layer"].as_u64(), row["head"].as_u64()) == (Some(10), Some(1));
    let without = |name: &'static str, key: &'static str, value: Value| {
        with_rows("behaviours", move |row| {
            if best(row) && row["behaviour"] == name {
                row[key] = value.clone();
            }
        })
    };
    expect_of(&without("translation", "share", json!(0.09)), "M4", Verdict::Partly, "translation does not hold");
    expect_of(&without("translation", "share_among", json!(0.3)), "M4", Verdict::Partly, "translation does not hold");
    expect_of(&without("translation", "share_among_stderr", json!(null)), "M4", Verdict::Partly, "does not hold");
    // Just above the limit, and no further than the noise.
    let claim = expect_of(&without("translation", "share", json!(0.11)), "M4", Verdict::Reproduced, "inside the noise");
    assert!(claim.decide.is_some());
    let none = with_rows("behaviours", |row| row["share"] = json!(0.05));
    expect_of(&none, "M4", Verdict::Not, "pattern matching does not hold");
    // A head that does not match prefixes may do what it likes.
    let elsewhere = with_rows("heads", |row| {
        if best(row) {
            row["prefix_matching"] = json!(0.2);
        }
    });
    expect_of(&elsewhere, "M4", Verdict::Not, "largest of 2 heads");
    let no_head = with_rows("heads", |row| row["prefix_matching"] = json!(0.2));
    expect_of(&no_head, "M4", Verdict::Not, "no head's prefix matching is above 0.30");
    let mut wordless = scan();
    wordless["behaviours"] = json!([]);
    expect_of(&wordless, "M4", Verdict::OutOfReach, "they need a tokenizer");
}

#[test]
fn m6_without_them_repeats_are_not_copied() {
    let claim = expect_of(&scan(), "M6", Verdict::Reproduced, "without the 3 heads");
    assert!(
        claim.why.contains("8.00 nats more") && claim.why.contains("of the same layers 0.50 at most"),
        "{claim:#?}"
    );
    assert!(claim.interval.is_some_and(|interval| interval.contains("rise 7.80 to 8.20")));
    let with = |change: &dyn Fn(&mut Value)| {
        let mut scan = scan();
        change(&mut scan);
        scan
    };
    let weak = with_rows("heads", |row| row["prefix_matching"] = json!(0.45));
    expect_of(&weak, "M6", Verdict::Partly, "at least 0.50 asked");
    expect_of(&with(&|scan| scan["repeated"]["second"] = json!(6.0)), "M6", Verdict::Partly, "less than 50 %");
    let harmful = with(&|scan| scan["ablation"]["sets"][2]["second_change"] = json!(3.0));
    expect_of(&harmful, "M6", Verdict::Partly, "3.00 at most");
    // Too few other heads in the layers: any others take their place.
    let any = with(&|scan| {
        let sets = scan["ablation"]["sets"].as_array_mut().expect("a list");
        sets.retain(|set| set["kind"] != "matched");
    });
    expect_of(&any, "M6", Verdict::Reproduced, "of any layer 1.00 at most");
    let mut bare = with_rows("heads", |row| row["prefix_matching"] = json!(0.1));
    bare["ablation"] = Value::Null;
    expect_of(&bare, "M6", Verdict::Partly, "no head matches prefixes");
    bare["repeated"]["second"] = json!(10.0);
    expect_of(&bare, "M6", Verdict::Not, "no head matches prefixes");
}

#[test]
fn q23_the_opposite_of_copying() {
    expect_of(&scan(), "Q23", Verdict::Reproduced, "the lowest: head 15.3, -0.95");
    let copying = |value: f64| {
        with_rows("heads", move |row| {
            if row["layer"] == 15 {
                row["copying"] = json!(value);
            }
        })
    };
    expect_of(&copying(-0.5), "Q23", Verdict::Partly, "0 one below -0.90");
    expect_of(&copying(0.5), "Q23", Verdict::Not, "0 have a copying score below 0");
}

#[test]
fn the_largest_model_decides_and_of_a_series_the_last() {
    let of = |params: u64, second: f64| {
        let mut scan = scan();
        scan["model"]["n_params"] = json!(params);
        scan["model"]["name"] = json!(format!("m{params}"));
        scan["repeated"]["second"] = json!(second);
        scan
    };
    let m6 = |scans: &[(&str, Value)]| of_models(scans).into_iter().find(|claim| claim.id == "M6").expect("a claim");
    let claim = m6(&[("a", of(9, 1.0)), ("b", of(5, 8.0))]);
    assert_eq!(claim.verdict, Verdict::Reproduced);
    assert!(claim.why.starts_with("m9: ") && claim.why.contains("Other scans, same rule: m5: "), "{claim:#?}");
    let claim = m6(&[("a", of(5, 1.0)), ("s/000", of(9, 1.0)), ("s/001", of(9, 8.0))]);
    assert_eq!(claim.verdict, Verdict::Partly);
    assert!(claim.why.contains("same rule: m5: ") && !claim.why.contains("m9: prefix"), "{claim:#?}");
    // Chosen tokens never speak for a model, not even for a larger one.
    let mut chosen = of(9, 1.0);
    chosen["ids_below"] = json!(1500);
    let claim = m6(&[("a", of(5, 8.0)), ("b", chosen)]);
    assert_eq!(claim.verdict, Verdict::Partly);
    assert!(claim.why.starts_with("m5: ") && claim.why.contains("m9, random tokens below 1500: "), "{claim:#?}");
}
