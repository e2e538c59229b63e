//! Every rule, held against fabricated runs with the effect and without it: a rule that no model
//! could fail, or pass, is a defect.

use std::sync::Mutex;
use std::time::Instant;

use crate::common::{
    Fabricated, all, deep, elsewhere, everything, exact, families, fragments, mlp, one,
    one_smeared, scan, seed, shuffled, two, two_given, two_smeared, two_without, unchanged,
    write_all, write_scan,
};
use induction_report::Verdict::{Not, OutOfReach, Partly, Reproduced};
use induction_report::{Claim, RULES, Rule, Verdict, claims, load_runs, load_scans, revision};
use serde_json::{Value, json};

fn judged(runs: &[Fabricated]) -> Vec<Claim> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    write_all(dir.path(), runs);
    claims(&load_runs(dir.path()).expect("sound runs"), &[])
}

#[track_caller]
fn find<'c>(claims: &'c [Claim], id: &str) -> &'c Claim {
    claims.iter().find(|claim| claim.id == id).expect("a claim of the table")
}

/// One claim of an experiment measured on one example.
fn exactly(runs: Vec<Fabricated>, id: &str) -> Claim {
    find(&judged(&exact(runs)), id).clone()
}

#[track_caller]
fn expect(claim: &Claim, verdict: Verdict, why: &str) {
    assert_eq!(claim.verdict, verdict, "{claim:#?}");
    assert!(claim.why.contains(why), "expected {why:?} in {claim:#?}");
}

/// An experiment of a few runs, the verdict of a rule on it, and what must be said.
type Case = (&'static str, Verdict, &'static str, fn() -> Vec<Fabricated>);

/// What fails a rule, and what half of it; all of them differ from what passes by as little as they
/// can.
#[rustfmt::skip]
const CASES: &[Case] = &[
    ("Q1", Reproduced, "from 0.14 to 0.50 nats", || vec![Fabricated { before: 0.14, after: 0.5, ..two() }]),
    ("Q1", Partly, "from 0.18 to 0.50 nats", || vec![Fabricated { before: 0.18, after: 0.5, ..two() }]),
    ("Q1", Not, "from 0.30 to 0.70 nats", || vec![Fabricated { before: 0.3, after: 0.7, ..two() }]),
    ("Q1", Not, "shows no phase-change window", || vec![unchanged()]),
    ("Q2", Reproduced, "the run ends with 0.79", || vec![Fabricated { after: 0.79, ..two() }]),
    ("Q2", Partly, "to 0.15 nats", || vec![Fabricated { after: 0.15, ..two() }]),
    ("Q2", Partly, "to 1.20 nats", || vec![Fabricated { after: 1.2, ..two() }]),
    ("Q2", Not, "to 0.090 nats", || vec![Fabricated { before: 0.02, after: 0.09, ..two() }]),
    ("Q3", Partly, "from 0.12 to 0.42", || vec![Fabricated { before: 0.12, ..two() }]),
    ("Q3", Not, "from 0.30 to 0.50", || vec![Fabricated { before: 0.3, after: 0.5, ..two() }]),
    ("Q4", Partly, "90 % at 6.", || vec![Fabricated { middle: 5e6, width: 8e5, ..two() }]),
    ("Q4", Not, "90 % at 7.", || vec![Fabricated { middle: 5e6, width: 1.3e6, ..two() }]),
    ("Q4", Not, "the decay begins at 3.00M", || vec![Fabricated { decay_share: 0.7, ..two() }]),
    // The change begins before the warm-up ends: only its end is seen.
    ("Q4", Not, "shows no phase-change window", || vec![Fabricated { warmup_steps: 300, ..two() }]),
    ("Q5", Partly, "1 layer ends with 0.30", || vec![Fabricated { after: 0.3, ..one() }, two()]),
    ("Q5", Partly, "at any time is 0.6", || vec![Fabricated { prefix_matching: 0.6, ..one() }, two()]),
    ("Q5", Not, "1 layer has a step", || vec![Fabricated { after: 0.3, prefix_matching: 0.6, ..one() }, two()]),
    ("Q5", Not, "no phase-change window", || vec![one(), unchanged()]),
    ("Q6", Partly, "is at 3.60M", || vec![Fabricated { head_middle: 3.6e6, ..two() }]),
    // Inside a wide window, and far from its middle.
    ("Q6", Partly, "is at 6.19M", || vec![Fabricated { middle: 5e6, width: 8e5, head_middle: 6.2e6, ..two() }]),
    ("Q6", Not, "is at 7.00M", || vec![Fabricated { head_middle: 7e6, ..two() }]),
    ("Q6", Not, "below the 0.30", || vec![Fabricated { prefix_matching: 0.25, ..two() }]),
    ("Q7", Partly, "is there at", || vec![one(), Fabricated { bump: 4.0, leaves_at: Some(7e6), ..two() }]),
    // A bump that 1 layer has too does not part the curves.
    ("Q7", Partly, "is there at", || vec![one(), two()].into_iter().map(|run| Fabricated { bump: 4.0, bump_at: Some(8e6), ..run }).collect()),
    ("Q7", Not, "is there at", || vec![one(), Fabricated { bump: 4.0, bump_at: Some(8e6), leaves_at: Some(8e6), ..two() }]),
    // Hardly any training lies between the warm-up and the window.
    ("Q8", Not, "has no path of half a window's width", || [one(), two()].map(|run| Fabricated { warmup_steps: 210, ..run }).to_vec()),
    ("Q8", Not, "2 layers turns by 18 degrees", || vec![one(), Fabricated { turn: 20.0, ..two() }]),
    ("Q8", Not, "1 layer turns by 114", || vec![Fabricated { turn: 120.0, ..one() }, two()]),
    ("Q9", Partly, "1 layer, smeared keys ends with 0.20", || vec![Fabricated { after: 0.2, ..one_smeared() }, two(), two_smeared()]),
    ("Q9", Partly, "half of it at 4.99M", || vec![one_smeared(), two(), Fabricated { head_middle: 5e6, ..two_smeared() }]),
    ("Q9", Not, "half of it at 4.99M", || vec![Fabricated { after: 0.2, ..one_smeared() }, two(), Fabricated { head_middle: 5e6, ..two_smeared() }]),
    // Others take from it more than these give.
    ("Q10", Reproduced, "1.1 +0.100", || vec![Fabricated { effects: [0.1, -0.05], ..two() }]),
    ("Q10", Partly, "1.1 +0.100", || vec![Fabricated { effects: [0.1, 0.01], ..two() }]),
    ("Q10", Not, "1.1 +0.020", || vec![Fabricated { effects: [0.02, 0.05], ..two() }]),
    ("Q10", Not, "No head of the 2-layer vanilla run ends above 0.30", || vec![Fabricated { prefix_matching: 0.2, ..two() }]),
    ("Q11", Partly, "1.1 (induction) -0.5", || vec![Fabricated { undoing: Some([-0.5, -0.6]), ..two() }]),
    ("Q11", Not, "1.1 (induction) +0.5", || vec![Fabricated { undoing: Some([0.5, 0.1]), ..two() }]),
    ("Q11", Not, "no change to be undone", || vec![Fabricated { undoing: None, ..two() }]),
    ("Q12", Partly, "4 layers: head 1.1", || vec![two(), deep(3), Fabricated { head_layer: Some(1), ..deep(4) }]),
    ("Q12", Not, "3 layers: head 1.1", || vec![two(), Fabricated { head_layer: Some(1), ..deep(3) }]),
    ("Q13", Partly, "6 layers, MLPs: head 5.1", || vec![two(), mlp(5), Fabricated { head_layer: Some(5), ..mlp(6) }]),
    ("Q13", Not, "5 layers, MLPs: head 4.1", || vec![two(), Fabricated { head_layer: Some(4), ..mlp(5) }]),
    // Of 7 layers nothing is claimed.
    ("Q13", Reproduced, "5 layers, MLPs: head 3.1", || vec![two(), mlp(5), mlp(6), Fabricated { head_layer: Some(0), ..mlp(7) }]),
    ("Q14", Reproduced, "6 layers at 40 %", || vec![two(), mlp(2), mlp(3), Fabricated { head_layer: Some(2), ..mlp(4) }, Fabricated { head_layer: Some(2), ..mlp(5) }, Fabricated { head_layer: Some(2), ..mlp(6) }]),
    ("Q14", Partly, "5 layers at 100 %", || vec![two(), mlp(2), mlp(3), Fabricated { head_layer: Some(2), ..mlp(4) }, Fabricated { head_layer: Some(4), ..mlp(5) }, Fabricated { head_layer: Some(4), ..mlp(6) }]),
    ("Q14", Not, "4 layers at 100 %", || vec![two(), mlp(2), mlp(3), mlp(4)]),
    ("Q15", Partly, "0 copy by the score", || vec![one(), Fabricated { copying: -0.6, ..two() }]),
    ("Q15", Partly, "0 copy by their OV", || vec![one(), Fabricated { ov: -0.7, ..two() }]),
    ("Q15", Not, "0 copy by the score", || vec![one(), Fabricated { copying: -0.6, ov: -0.7, ..two() }]),
    ("B1", Reproduced, "2 raise the next token", || vec![two()]),
    ("B1", Partly, "on average by -0.0", || vec![Fabricated { by_cause: Some([4.0, -1.0]), ..two() }]),
    ("B1", Not, "0 raise the next token", || vec![Fabricated { by_cause: Some([-4.0, -1.0]), ..two() }]),
    ("B1", OutOfReach, "an earlier version", || vec![Fabricated { by_cause: None, ..two() }]),
    ("B2", Reproduced, "6 heads below 0.1, 0", || vec![two()]),
    ("B2", Partly, "6 heads below 0.1, 6", || vec![Fabricated { by_cause: Some([4.0, 40.0]), ..two() }]),
    ("B2", Not, "0 raise the next token", || vec![Fabricated { by_cause: Some([0.1, 0.0]), ..two() }]),
    ("Q16", Partly, "heads of attention-only models", || vec![one(), Fabricated { ov: -0.7, ..two() }]),
    ("Q16", Partly, "heads of attention-only models", || vec![one(), Fabricated { trace: -1.0, ..two() }]),
    ("Q16", Not, "heads of attention-only models", || vec![one(), Fabricated { ov: -0.7, trace: -1.0, ..two() }]),
    ("Q17", Partly, "3 layers 1.20", || vec![two(), Fabricated { after: 1.2, ..deep(3) }, mlp(2)]),
    ("Q17", Partly, "After its window", || [two(), deep(3), mlp(2)].map(|run| Fabricated { drift: -0.17, ..run }).to_vec()),
    ("Q17", Not, "After its window", || vec![Fabricated { drift: -0.17, ..two() }, Fabricated { drift: -0.17, ..deep(3) }, Fabricated { after: 1.2, ..mlp(2) }, Fabricated { drift: -0.17, ..mlp(3) }]),
    // As good at first, and better late in the context.
    ("Q18", Not, "around the late", || vec![two(), Fabricated { ahead: 0.0, after: 0.8, ..deep(3) }]),
    ("Q19", Partly, "before", || vec![two(), Fabricated { slopes: [-1.0, 1.0], ..deep(3) }, Fabricated { slopes: [-2.0, 2.0], ..deep(4) }]),
    ("Q19", Not, "after", || vec![two(), Fabricated { slopes: [-1.0, -1.0], ..deep(3) }, Fabricated { slopes: [-2.0, -2.0], ..deep(4) }]),
    ("Q20", Partly, "20 % of its attention", || vec![Fabricated { pattern: Some([0.2, 0.4, 0.25]), ..two() }]),
    ("Q20", Not, "25 % if spread over them", || vec![Fabricated { pattern: Some([0.65, 0.3, 0.1]), ..two() }]),
    ("Q20", Not, "75 % if it copied literally", || vec![Fabricated { pattern: Some([0.65, 0.8, 0.75]), ..two() }]),
    ("Q21", Partly, "On elsewhere", || vec![one(), two(), elsewhere(one()), elsewhere(Fabricated { head_middle: 7e6, ..two() })]),
    ("Q21", Partly, "On elsewhere", || vec![one(), two(), elsewhere(Fabricated { after: 0.3, ..one() }), elsewhere(two())]),
    ("Q21", Not, "On elsewhere", || vec![one(), two(), elsewhere(one()), elsewhere(unchanged())]),
    ("Q22", Partly, "an e-fold", || vec![Fabricated { late_slopes: [-0.1, -0.2], ..two() }]),
    ("Q22", Partly, "an e-fold", || vec![Fabricated { late_slopes: [-0.01, -0.02], ..two() }]),
    ("Q22", Not, "an e-fold", || vec![Fabricated { late_slopes: [-0.08, -0.08], ..two() }]),
    ("R1", Partly, "(head 0.0): 80 %", || vec![Fabricated { recovered: [0.8, 0.6, 0.7], ..two() }]),
    ("R1", Partly, "-10 points more", || vec![Fabricated { recovered: [0.99, 0.6, 0.5], ..two() }]),
    ("R1", Not, "(head 1.1): 30 %", || vec![Fabricated { recovered: [0.8, 0.3, 0.2], ..two() }]),
    ("S1", Partly, "of the same layers 10 % on average over 1 set", || vec![Fabricated { sets: [0.4, 0.1], ..two() }]),
    ("S1", Partly, "70 %", || vec![Fabricated { sets: [0.6, 0.7], ..two() }]),
    ("S1", Not, "20 %", || vec![Fabricated { sets: [0.1, 0.2], ..two() }]),
    ("A1", Partly, "at 10.0M tokens", || vec![Fabricated { effects: [0.05, 0.02], ..two() }]),
    // As much at the end, and next to nothing before.
    ("A1", Not, "at 10.0M tokens", || vec![Fabricated { effects: [0.1, 0.01], slump: 0.1, ..two() }]),
    ("A2", Partly, "3 layers: ", || vec![two(), Fabricated { effects: [0.02, 0.05], ..deep(3) }, mlp(2)]),
    ("A2", Partly, "2 layers, MLPs: ", || vec![two(), deep(3), Fabricated { effects: [0.02, 0.05], ..mlp(2) }]),
    ("A2", Not, "patterns kept", || [two(), deep(3), mlp(2)].map(|run| Fabricated { effects: [0.02, 0.05], ..run }).to_vec()),
    ("A3", Partly, "mean: induction heads 1.1 +0.010", || vec![Fabricated { fills: [0.01, 0.1], ..two() }]),
    ("A3", Partly, "resample: induction heads 1.1 +0.010", || vec![Fabricated { fills: [0.1, 0.01], ..two() }]),
    ("A3", Not, "mean: induction heads 1.1 +0.010", || vec![Fabricated { fills: [0.01, 0.01], ..two() }]),
    ("A4", Partly, "12 heads", || vec![two(), Fabricated { effects: [0.02, 0.02], ..deep(3) }]),
    ("A4", Not, "4 heads", || vec![Fabricated { effects: [-0.02, 0.1], ..two() }]),
    ("K1", Partly, "costs 40 %", || vec![Fabricated { paths: [0.4, 0.1], ..two() }]),
    ("K1", Partly, "the largest other cut 70 %", || vec![Fabricated { paths: [0.6, 0.7], ..two() }]),
    ("K1", Not, "costs 10 %", || vec![Fabricated { paths: [0.1, 0.2], ..two() }]),
    ("K1", Not, "no induction head", || vec![Fabricated { prefix_matching: 0.2, ..two() }]),
    ("K2", Partly, "half-way at 5.97M", || vec![Fabricated { previous_middle: 6e6, ..two() }]),
    ("K2", Partly, "K-composition at 5.97M", || vec![Fabricated { composition_middle: 6e6, ..two() }]),
    ("K2", Not, "half-way at 5.97M", || vec![Fabricated { previous_middle: 6e6, composition_middle: 6e6, ..two() }]),
    ("L1", Partly, "foretells falls by", || vec![Fabricated { copies: [0.5, 0.4], ..two() }]),
    ("L1", Partly, "foretells falls by", || vec![Fabricated { copies: [0.1, 0.01], ..two() }]),
    ("L1", Not, "foretells falls by", || vec![Fabricated { copies: [0.1, 0.1], ..two() }]),
    ("N1", Partly, "at any time is 0.6", || vec![two(), Fabricated { prefix_matching: 0.6, ..shuffled() }]),
    ("N1", Partly, "Its score has a window", || vec![two(), Fabricated { after: 0.42, ..shuffled() }]),
    ("N1", Not, "Its score has a window", || vec![two(), Fabricated { after: 0.42, prefix_matching: 0.6, ..shuffled() }]),
    // A control says nothing where the real text does not bring the change.
    ("N1", OutOfReach, "nothing that could be absent", || vec![unchanged(), shuffled()]),
    ("N2", Partly, "at any time is 0.6", || vec![two(), Fabricated { prefix_matching: 0.6, ..fragments() }]),
    ("N2", Partly, "Its score has a window", || vec![two(), Fabricated { after: 0.42, ..fragments() }]),
    ("N2", Not, "Its score has a window", || vec![two(), Fabricated { after: 0.42, prefix_matching: 0.6, ..fragments() }]),
    ("N2", OutOfReach, "nothing that could be absent", || vec![unchanged(), fragments()]),
    ("P1", Not, "half of it at 3.99M", || vec![two(), Fabricated { head_middle: 4e6, ..two_given() }]),
    ("P1", Not, "ends at 0.096", || vec![two(), Fabricated { prefix_matching: 0.1, ..two_given() }]),
    ("P2", Partly, "still has a window", || vec![two(), Fabricated { after: 0.2, ..two_without() }]),
    ("P2", Partly, "there is no window", || vec![two(), Fabricated { before: 0.39, after: 0.4, ..two_without() }]),
    ("P2", Not, "still has a window", || vec![two(), Fabricated { after: 0.4, ..two_without() }]),
    ("P2", OutOfReach, "nothing that could be absent", || vec![unchanged(), two_without()]),
];

#[test]
fn what_lacks_the_effect_fails() {
    // The machine's cores share the cases.
    let (left, failed) = (Mutex::new(CASES.iter()), Mutex::new(Vec::new()));
    let next = || left.lock().expect("no panic").next();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(|| {
                while let Some((id, verdict, why, runs)) = next() {
                    let claim = exactly(runs(), id);
                    if claim.verdict != *verdict || !claim.why.contains(why) {
                        let wrong = format!("expected {} and {why:?}: {claim:#?}", verdict.word());
                        failed.lock().expect("no panic").push(wrong);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no panic");
    assert!(failed.is_empty(), "{} of {}: {}", failed.len(), CASES.len(), failed.join("\n"));
}

#[test]
fn no_rule_lacks_a_case_that_fails_it() {
    let of_models = MODELS.iter().map(|(id, verdict, ..)| (*id, *verdict));
    let cases: Vec<(&str, Verdict)> =
        CASES.iter().map(|(id, verdict, ..)| (*id, *verdict)).chain(of_models).collect();
    assert!(cases.iter().all(|(id, _)| RULES.iter().any(|rule| rule.id == *id)));
    for rule in RULES {
        assert!(cases.contains(&(rule.id, Not)), "nothing fails {}", rule.id);
        let half = rule.rule.to_lowercase().contains("partly");
        assert_eq!(cases.contains(&(rule.id, Partly)), half, "what is partly {}", rule.id);
    }
}

/// Three seeds of everything that is trained, and a scan: with draws, so that it is judged once.
#[test]
fn a_perfect_experiment_reproduces_everything() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    write_all(dir.path(), &everything());
    write_scan(dir.path(), "tiny", &scan());
    let scans = load_scans(dir.path()).expect("a sound scan");
    let runs = load_runs(dir.path()).expect("sound runs");
    let begun = Instant::now();
    let claims = claims(&runs, &scans);
    eprintln!("{} runs judged in {:.1} s", runs.len(), begun.elapsed().as_secs_f64());
    assert_eq!(
        claims.iter().map(|claim| &*claim.id).collect::<Vec<_>>(),
        RULES.iter().map(|rule| rule.id).collect::<Vec<_>>()
    );
    for claim in &claims {
        assert_eq!(claim.verdict, Reproduced, "{claim:#?}");
        let about = RULES.iter().find(|rule| rule.id == claim.id).expect("a rule");
        let families =
            ["Q12", "Q13", "Q14", "Q17", "Q18", "Q19", "Q21", "A2"].contains(&&*claim.id);
        let seeds = match &*claim.id {
            _ if about.decide.starts_with("`induction scan MODEL") => "One model",
            "Q15" | "Q16" | "A4" | "B1" | "B2" => "Heads of all seeds are taken together",
            _ if families => "One seed",
            _ => "means over 3 seeds",
        };
        assert!(claim.why.contains(seeds), "expected {seeds:?} in {claim:#?}");
        assert!(
            !claim.why.contains("read 0.5 times")
                && claim.probability.is_none_or(|share| share >= 0.95),
            "{claim:#?}"
        );
        assert_eq!(claim.decide.is_none(), claim.verdict == Reproduced, "{claim:#?}");
    }
    // Clear cases, of numbers with intervals.
    for id in ["Q1", "Q2", "Q3", "Q4", "Q5", "Q10", "S1", "A1", "K1", "L1", "N1", "P1", "P2"] {
        let claim = find(&claims, id);
        assert!(claim.probability == Some(1.0) && claim.interval.is_some(), "{claim:#?}");
        assert!(claim.why.contains("100 % of the draws agree with this verdict"), "{claim:#?}");
    }
}

#[test]
fn near_a_limit_the_verdict_is_inside_the_noise() {
    // 16 examples in equal steps of 0.02: a standard error of 0.02 sqrt(255 / 12 / 16), and 3.9 of
    // those in 95 %.
    let runs = [Fabricated {
        before: 0.145,
        spread: 0.02,
        passes: 2.5,
        train_tokens: 40_000_000,
        ..two()
    }];
    let claims = judged(&runs);
    let claim = find(&claims, "Q1");
    expect(claim, Reproduced, "The verdict is inside the noise");
    let share = claim.probability.expect("several examples");
    assert!((0.4..0.9).contains(&share) && claim.why.contains("limit of 0.15 nats"), "{claim:#?}");
    assert!(claim.decide.is_some(), "what would decide it");
    let [low, high] = ends(claim.interval.as_deref().expect("several examples"));
    let expected = 0.02 * (255.0f64 / 12.0 / 16.0).sqrt() * 2.0 * 1.96;
    assert!(
        low < 0.145 && 0.145 < high && ((high - low) / expected - 1.0).abs() < 0.15,
        "{low} to {high}: {expected}"
    );
    // Far from every limit the same noise does not matter.
    assert_eq!(find(&claims, "Q4").probability, Some(1.0));
    // What else is said of such a run.
    assert!(claim.why.contains("measured up to 10.0M of 40.0M tokens only"), "{claim:#?}");
    assert!(claim.why.contains("The text was read 2.5 times"), "{claim:#?}");
    assert!(claim.why.contains("One seed: how far another would differ is unknown."), "{claim:#?}");
}

/// The ends of an interval.
fn ends(interval: &str) -> [f64; 2] {
    let ends: Vec<f64> = interval.split(' ').filter_map(|word| word.parse().ok()).collect();
    [ends[0], ends[1]]
}

#[test]
fn one_example_has_no_interval() {
    let claim = exactly(vec![two()], "Q1");
    expect(&claim, Reproduced, "One evaluation example");
    assert!(claim.interval.is_none() && claim.probability.is_none(), "{claim:#?}");
}

#[test]
fn a_change_that_examples_do_not_agree_on_is_no_window() {
    // The same curve: only the noise of the changes decides.
    let noisy = Fabricated { change_noise: 3.0, ..two() };
    expect(find(&judged(&[noisy]), "Q4"), Not, "standard errors of its height");
}

#[test]
fn the_mean_over_seeds_decides() {
    let with = |number: u64, before: f64, after: f64| {
        seed(number, vec![Fabricated { before, after, ..two() }]).remove(0)
    };
    // The first alone would be partly Q2; of what comes before the change the seeds agree, of what
    // comes after they do not.
    let claims = judged(&[with(0, 0.05, 0.9), with(1, 0.05, 0.6), with(2, 0.05, 0.7)]);
    let [q1, q2] = ["Q1", "Q2"].map(|id| find(&claims, id));
    expect(q2, Reproduced, "seed 0: 0.90 nats, partly reproduced; seed 1: 0.60 nats, reproduced");
    assert!(
        q2.ours == "0.73 nats"
            && q2.why.contains("means over 3 seeds; the sentences are about the first"),
        "{q2:#?}"
    );
    let width = |claim: &Claim| {
        ends(claim.interval.as_deref().expect("draws")).into_iter().rev().reduce(|a, b| a - b)
    };
    let [narrow, wide] = [q1, q2].map(|claim| width(claim).expect("two ends"));
    // Of two degrees of freedom: 4.3 standard errors on each side.
    let stderr = (0.03f64 / 3.0 * 7.0 / 9.0).sqrt();
    assert!(narrow < 0.2 * wide && wide > 4.0 * 0.08 && stderr > 0.08, "{narrow} against {wide}");
    assert!(q1.probability == Some(1.0) && q2.probability < Some(0.95), "{q1:#?}{q2:#?}");

    // A number that a seed lacks is less sure to be there at all.
    let flat = seed(2, vec![unchanged()]).remove(0);
    let claims = judged(&[with(0, 0.05, 0.42), with(1, 0.05, 0.42), flat]);
    let claim = find(&claims, "Q1");
    expect(claim, Reproduced, "seed 2: none, not reproduced");
    assert!(claim.probability.is_some_and(|share| (0.5..0.95).contains(&share)), "{claim:#?}");

    // Two of three: there is none.
    let claim = exactly(
        vec![
            with(0, 0.05, 0.42),
            seed(1, vec![unchanged()]).remove(0),
            seed(2, vec![unchanged()]).remove(0),
        ],
        "Q1",
    );
    expect(&claim, Not, "seed 0: 0.050 nats, reproduced");
}

#[test]
fn what_is_missing_is_out_of_reach_and_named() {
    let without = |folders: &[&str]| {
        let mut runs = [all(), families(), vec![shuffled(), fragments()]].concat();
        runs.retain(|run| folders.iter().all(|folder| !run.folder.starts_with(folder)));
        judged(&exact(runs))
    };
    for (folders, ids, words) in [
        (
            &["b-2L", "i-"][..],
            &["Q1", "Q5", "Q9", "Q10", "Q15", "A4", "K1", "L1", "N1", "N2", "P1", "P2"][..],
            "2-layer vanilla run on this data is missing",
        ),
        (&["a-1L"], &["Q5", "Q7", "Q8"], "1-layer vanilla run on this data is missing"),
        (&["c-1L"], &["Q9"], "1-layer smeared-key run on this data is missing"),
        (&["d-2L"], &["Q9"], "2-layer smeared-key run on this data is missing"),
        (&["e-"], &["P1"], "previous-token-clamped (`reproduce --clamp`) run"),
        (&["f-"], &["P2"], "induction-forbidden (`reproduce --clamp`) run"),
        (&["g-"], &["Q12"], "attention-only model of 3 layers or more is here"),
        (&["g-"], &["Q18"], "3 layers or more"),
        (&["g-"], &["Q19"], "--scale full"),
        (&["g-"], &["A2"], "3-layer vanilla run on this data is missing"),
        (&["g-", "h-"], &["Q14", "Q17"], "--scale full"),
        (&["h-"], &["Q13"], "model of 5 or 6 layers with MLPs is here"),
        (&["h-2L"], &["A2"], "2-layer vanilla run with MLPs on this data is missing"),
        (&["i-"], &["Q21"], "--scale full"),
        (&["i-a-1L"], &["Q21"], "On elsewhere: The attention-only 1-layer vanilla run"),
        (&["k-"], &["N1"], "2-layer vanilla run on shuffled text"),
        (&["l-"], &["N2"], "2-layer vanilla run on text in fragments"),
        (&[], &["Q23", "M4", "M6", "M7", "M8"], "induction scan MODEL"),
    ] {
        let claims = without(folders);
        for id in ids {
            expect(find(&claims, id), OutOfReach, words);
            assert!(find(&claims, id).probability.is_none() && find(&claims, id).decide.is_some());
        }
        // What has its runs is judged as before.
        assert_eq!(
            find(&claims, "Q6").verdict,
            if folders[..] == ["b-2L", "i-"] { OutOfReach } else { Reproduced }
        );
    }
    let bare = judged(&exact(
        [all(), families()]
            .concat()
            .into_iter()
            .map(|run| Fabricated { ablated: false, pattern: None, ..run })
            .collect(),
    ));
    for id in ["Q10", "Q11", "R1", "S1", "A1", "A2", "A3", "A4", "K1"] {
        expect(find(&bare, id), OutOfReach, "(`induction ablate RUN`)");
    }
    expect(find(&bare, "Q20"), OutOfReach, "read the prompts");
    // Where no head of theirs is an induction head, where they lie is not seen.
    let headless = exactly(vec![two(), Fabricated { prefix_matching: 0.2, ..mlp(5) }], "Q13");
    expect(&headless, OutOfReach, "More tokens would decide it");
    let no_advantage = exactly(vec![two(), Fabricated { ahead: -0.1, ..deep(3) }], "Q18");
    expect(&no_advantage, OutOfReach, "no advantage");
    assert!(claims(&[], &[]).iter().all(|claim| claim.verdict == OutOfReach));
}

#[test]
fn parts_are_told_by_content() {
    // Names that lie.
    let mut runs = exact(all());
    for (run, name) in runs.iter_mut().zip(["2L", "1L", "2L-smeared", "1L-smeared"]) {
        run.folder = name.to_string();
    }
    let clean = judged(&runs);
    assert_eq!(clean, judged(&exact(all())));
    // A run on other data has a claim of its own and touches no other; nor does a control.
    let synthetic =
        Fabricated { folder: "0-synthetic".to_string(), text: None, after: 3.0, ..two() };
    let control = Fabricated { after: 3.0, ..shuffled() };
    runs.extend(exact(vec![synthetic, control]));
    let others = |claims: Vec<Claim>| {
        claims.into_iter().filter(|claim| !["Q21", "N1"].contains(&&*claim.id)).collect::<Vec<_>>()
    };
    assert_eq!(others(judged(&runs)), others(clean));
    let apart = vec![Fabricated { text: None, ..one() }, two()];
    expect(&exactly(apart, "Q5"), OutOfReach, "on this data is missing");
    expect(
        &exactly(vec![Fabricated { d_mlp: 512, ..two() }], "Q1"),
        OutOfReach,
        "2-layer vanilla run",
    );
}

#[test]
fn the_words_of_a_rule_hold_its_limits() {
    let lacks = |rule: &Rule| {
        let missing: Vec<_> =
            rule.limits().into_iter().filter(|limit| !holds_number(rule.rule, limit)).collect();
        (!missing.is_empty()).then(|| format!("{} lacks {missing:?}: {}", rule.id, rule.rule))
    };
    let lacking: Vec<String> = RULES.iter().filter_map(lacks).collect();
    assert!(lacking.is_empty(), "{}", lacking.join("\n"));
    assert!(RULES.iter().all(
        |rule| !rule.limits().is_empty() || ["Q23", "M4", "M6", "M7", "M8"].contains(&rule.id)
    ));
    // Those about models are code: their limits stand in the words all the same.
    for (id, words) in [
        ("Q23", &["16 layers", "0.3", "-0.9", "below 0"][..]),
        ("M4", &["0.3", "2 times chance", "2 standard errors"]),
        ("M6", &["0.5", "50 %", "0.3", "3 times"]),
        ("M7", &["95 %"]),
        ("M8", &["3 %", "75 to 125 %", "50 to 150 %", "a third"]),
    ] {
        let rule = RULES.iter().find(|rule| rule.id == id).expect("a rule").rule;
        assert!(words.iter().all(|word| rule.contains(word)), "{id}");
    }
}

/// Whether a text holds words, and not as a part of a longer number.
fn holds_number(text: &str, words: &str) -> bool {
    let inside = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    text.match_indices(words).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + words.len()..]);
        let longer = after
            .strip_prefix('.')
            .map_or(inside(after.chars().next()), |rest| inside(rest.chars().next()));
        !longer && !before.ends_with(|c: char| c.is_ascii_digit() || c == '.')
    })
}

#[test]
fn a_revision_names_these_rules() {
    let revision = revision();
    assert!(
        revision.len() == 12 && revision.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')),
        "{revision}"
    );
    assert_eq!(revision, induction_report::revision());
}

/// The claims about real models, from these alone.
fn of_models(scans: &[(&str, Value)]) -> Vec<Claim> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (name, scan) in scans {
        write_scan(dir.path(), name, scan);
    }
    claims(&[], &load_scans(dir.path()).expect("sound scans"))
}

fn of_model(scan: Value, id: &str) -> Claim {
    find(&of_models(&[("tiny", scan)]), id).clone()
}

/// The scan with something else.
fn changed(change: impl Fn(&mut Value)) -> Value {
    let mut scan = scan();
    change(&mut scan);
    scan
}

/// A scan with every row of a list changed.
fn with_rows(list: &str, change: impl Fn(&mut Value)) -> Value {
    changed(|scan| scan[list].as_array_mut().expect("a list").iter_mut().for_each(&change))
}

fn is_best(row: &Value) -> bool {
    (&row["layer"], &row["head"]) == (&json!(10), &json!(1))
}

/// Another number of the best head, of one behaviour.
fn translation(key: &str, value: Value) -> Value {
    with_rows("behaviours", |row| {
        if is_best(row) && row["behaviour"] == "translation" {
            row[key] = value.clone();
        }
    })
}

/// Another copying score of the head that does the opposite.
fn opposite(value: f64) -> Value {
    with_rows("heads", |row| {
        if row["layer"] == 15 {
            row["copying"] = json!(value);
        }
    })
}

/// No head matches prefixes, and none is removed.
fn headless(second: f64) -> Value {
    let mut scan = with_rows("heads", |row| row["prefix_matching"] = json!(0.1));
    (scan["ablation"], scan["repeated"]["second"]) = (Value::Null, json!(second));
    scan
}

/// The same as [`CASES`] for the rules about real models.
type ModelCase = (&'static str, Verdict, &'static str, fn() -> Value);

#[rustfmt::skip]
const MODELS: &[ModelCase] = &[
    ("M4", Reproduced, "translation holds, head 10.1: 60 %", scan),
    ("M4", Partly, "translation does not hold", || translation("share", json!(0.09))),
    ("M4", Partly, "translation does not hold", || translation("share_among", json!(0.3))),
    ("M4", Partly, "translation does not hold", || translation("share_among_stderr", json!(null))),
    // Just above the limit, and no further than the noise.
    ("M4", Reproduced, "inside the noise", || translation("share", json!(0.11))),
    ("M4", Not, "pattern matching does not hold", || with_rows("behaviours", |row| row["share"] = json!(0.05))),
    // A head that does not match prefixes may do what it likes.
    ("M4", Not, "largest of 2 heads", || with_rows("heads", |row| if is_best(row) { row["prefix_matching"] = json!(0.2) })),
    ("M4", Not, "no head's prefix matching is above 0.30", || with_rows("heads", |row| row["prefix_matching"] = json!(0.2))),
    ("M4", OutOfReach, "they need a tokenizer", || changed(|scan| scan["behaviours"] = json!([]))),
    ("M6", Reproduced, "without the 3 heads", scan),
    ("M6", Reproduced, "of the same layers 0.50 at most", scan),
    ("M6", Partly, "at least 0.50 asked", || with_rows("heads", |row| row["prefix_matching"] = json!(0.45))),
    ("M6", Partly, "less than 50 %", || changed(|scan| scan["repeated"]["second"] = json!(6.0))),
    ("M6", Partly, "3.00 at most", || changed(|scan| scan["ablation"]["sets"][2]["second_change"] = json!(3.0))),
    // Too few other heads in the layers: any others take their place.
    ("M6", Reproduced, "of any layer 1.00 at most", || changed(|scan| scan["ablation"]["sets"].as_array_mut().expect("a list").retain(|set| set["kind"] != "matched"))),
    ("M6", Partly, "no head matches prefixes", || headless(1.0)),
    ("M6", Not, "no head matches prefixes", || headless(10.0)),
    ("M7", Reproduced, "the intervals do not meet", scan),
    ("M7", Partly, "the intervals meet", || changed(|scan| scan["causes"][1]["matching"]["high"] = json!(0.45))),
    ("M7", Not, "the intervals meet", || changed(|scan| scan["causes"][1]["matching"] = json!({"rank_correlation": 0.6, "low": 0.5, "high": 0.7}))),
    ("M7", OutOfReach, "was not asked", || changed(|scan| scan["causes"] = json!([]))),
    ("M8", Reproduced, "without it 1.00 (90 %; 75 % to 125 % asked)", scan),
    ("M8", Partly, "(60 %;", || changed(|scan| scan["cut"][0]["worth"][0]["cut"] = json!(0.6))),
    ("M8", Partly, "of the same layers 0.50", || changed(|scan| scan["cut"][1]["worth"][0]["cut"] = json!(0.5))),
    ("M8", Partly, "it was not measured", || changed(|scan| { scan["cut"].as_array_mut().expect("a list").pop(); })),
    ("M8", Not, "(20 %;", || changed(|scan| scan["cut"][0]["worth"][0]["cut"] = json!(0.2))),
    ("M8", Not, "nothing is lost", || changed(|scan| scan["cut"][0]["worth"][0]["removed"] = json!(-0.1))),
    ("M8", OutOfReach, "was not asked", || changed(|scan| scan["cut"] = json!([]))),
    ("Q23", Reproduced, "the lowest: head 15.3, -0.95", scan),
    ("Q23", Partly, "0 one below -0.90", || opposite(-0.5)),
    ("Q23", Not, "0 have a copying score below 0", || opposite(0.5)),
];

#[test]
fn what_a_model_lacks_fails() {
    for (id, verdict, why, scan) in MODELS {
        expect(&of_model(scan(), id), *verdict, why);
    }
    let shown = |id: &str, part: &str| {
        let claim = of_model(scan(), id);
        assert!(
            claim.interval.as_ref().is_some_and(|interval| interval.contains(part)),
            "{claim:#?}"
        );
    };
    shown("M4", "translation 56 % to 64 %");
    shown("M6", "rise 7.80 to 8.20");
    assert!(of_model(translation("share", json!(0.11)), "M4").decide.is_some());
}

#[test]
fn the_largest_model_decides_and_of_a_series_the_last() {
    let of = |params: u64, second: f64| {
        changed(|scan| {
            scan["model"]["n_params"] = json!(params);
            scan["model"]["name"] = json!(format!("m{params}"));
            scan["repeated"]["second"] = json!(second);
        })
    };
    let m6 = |scans: &[(&str, Value)]| find(&of_models(scans), "M6").clone();
    let claim = m6(&[("a", of(9, 1.0)), ("b", of(5, 8.0))]);
    assert_eq!(claim.verdict, Reproduced);
    assert!(
        claim.why.starts_with("m9: ") && claim.why.contains("Other scans, same rule: m5: "),
        "{claim:#?}"
    );
    let claim = m6(&[("a", of(5, 1.0)), ("s/000", of(9, 1.0)), ("s/001", of(9, 8.0))]);
    assert_eq!(claim.verdict, Partly);
    assert!(
        claim.why.contains("same rule: m5: ") && !claim.why.contains("m9: prefix"),
        "{claim:#?}"
    );
    // Random weights of a larger model's shape speak for nothing.
    let mut random = of(9, 11.0);
    random["how"]["prompt_loss"] = json!(11.1);
    let claim = m6(&[("a", of(5, 1.0)), ("b", random.clone())]);
    assert_eq!(claim.verdict, Reproduced);
    assert!(
        claim.why.starts_with("m5: ") && claim.why.contains("no better than chance would: m9 ("),
        "{claim:#?}"
    );
    let claim = m6(&[("b", random)]);
    assert_eq!(claim.verdict, OutOfReach);
    assert!(claim.why.contains("no better than chance would") && claim.why.contains("m9"));
    // Chosen tokens never speak for a model, not even for a larger one.
    let mut chosen = of(9, 1.0);
    chosen["ids_below"] = json!(1500);
    let claim = m6(&[("a", of(5, 8.0)), ("b", chosen)]);
    assert_eq!(claim.verdict, Partly);
    assert!(
        claim.why.starts_with("m5: ") && claim.why.contains("m9, random tokens below 1500: "),
        "{claim:#?}"
    );
}
