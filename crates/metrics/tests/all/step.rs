//! Steps of curves over training: against SciPy's fits, and on simulated curves with and without a
//! step.

use approx::assert_relative_eq;
use induction_metrics::{
    Error, NoStep, StepConfig, StepDirection, StepFit, StepSearch, find_step, fit_step,
    percentile_interval,
};
use rand::Rng;
use serde::Deserialize;

/// Simulated curves of each kind.
const CURVES: u64 = 500;
/// Of the curves with a step.
const HEIGHT: f64 = 0.3;
const NOISES: [f64; 3] = [0.002, 0.01, 0.03];

/// 30 snapshots, as a run takes them: steps 1, 2, 4, .. 256, then every 500.
fn snapshots() -> Vec<u64> {
    let steps = (0..9).map(|k| 1 << k).chain((1..=21).map(|k| 500 * k));
    steps.map(|step: u64| step * 16384).collect()
}

/// A curve over the run as a share, with AR(1) noise of standard deviation `sd` (Irwin-Hall
/// innovations).
fn noisy(
    tokens: &[u64],
    curve: impl Fn(f64) -> f64,
    sd: f64,
    correlation: f64,
    seed: u64,
) -> Vec<f64> {
    let mut rng = induction_random::stream(seed, "step", 0);
    let mut normal = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    let mut error = normal();
    let (first, run) = (tokens[0] as f64, (tokens[tokens.len() - 1] - tokens[0]) as f64);
    let value = |&t: &u64| {
        error = correlation * error + (1.0 - correlation * correlation).sqrt() * normal();
        curve((t as f64 - first) / run) + sd * error
    };
    tokens.iter().map(value).collect()
}

/// A falling step of 0.3.
fn step(x: f64, midpoint: f64, scale: f64) -> f64 {
    -HEIGHT / (1.0 + (-(x - midpoint) / scale).exp())
}

/// A value at each share of the run.
type Curve = fn(f64) -> f64;
type Verdict = Result<StepFit, NoStep>;

fn simulate(curve: impl Fn(f64) -> f64, sd: f64, correlation: f64) -> Vec<Verdict> {
    let tokens = snapshots();
    let search = StepSearch::new(&tokens, &StepConfig::default()).expect("valid");
    let one =
        |seed| search.find(&noisy(&tokens, &curve, sd, correlation, seed), None).expect("finite");
    (0..CURVES).map(one).collect()
}

fn share_found(verdicts: &[Verdict]) -> f64 {
    verdicts.iter().filter(|found| found.is_ok()).count() as f64 / verdicts.len() as f64
}

#[derive(Deserialize)]
struct Oracle {
    tokens: Vec<u64>,
    values: Vec<f64>,
    before: f64,
    after: f64,
    midpoint_tokens: f64,
    scale_tokens: f64,
    rss: f64,
    line_rss: f64,
    decay_rss: f64,
    effective: f64,
}

#[test]
fn fits_are_scipys() {
    let json =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/oracle/step.json"));
    let curves: Vec<Oracle> = serde_json::from_str(json).expect("as step.py writes it");
    assert_eq!(curves.len(), 12);
    for o in curves {
        let found = fit_step(&o.tokens, &o.values, &StepConfig::default()).expect("valid");
        let size = (o.after - o.before).abs();
        assert_relative_eq!(found.before, o.before, epsilon = 1e-3 * size);
        assert_relative_eq!(found.after, o.after, epsilon = 1e-3 * size);
        assert_relative_eq!(found.midpoint_tokens, o.midpoint_tokens, max_relative = 1e-3);
        assert_relative_eq!(found.scale_tokens, o.scale_tokens, max_relative = 1e-3);
        assert!(found.rss <= o.rss * (1.0 + 1e-6), "{} for SciPy's {}", found.rss, o.rss);
        let n = o.effective;
        assert_relative_eq!(found.effective_snapshots, n, max_relative = 1e-9);
        let correction = |k: f64| 2.0 * k + 2.0 * k * (k + 1.0) / (n - k - 1.0);
        let line = n * (o.line_rss / o.rss).ln() + correction(3.0) - correction(5.0);
        let decay = n * (o.decay_rss / o.rss).ln() + correction(4.0) - correction(5.0);
        assert_relative_eq!(found.delta_aicc, line, epsilon = 1e-3);
        // Where a straight line is the best decay, SciPy stops just short of its bound.
        assert_relative_eq!(found.delta_aicc_decay, decay, epsilon = 1e-2);
    }
}

#[test]
fn curves_without_a_step_have_none() {
    let curves: [(&str, Curve); 9] = [
        ("flat", |_| 0.0),
        ("line", |x| -HEIGHT * x),
        ("decay within 5 %", |x| HEIGHT * (-x / 0.05).exp()),
        ("decay within 15 %", |x| HEIGHT * (-x / 0.15).exp()),
        ("decay within half", |x| HEIGHT * (-x / 0.5).exp()),
        ("power -0.2", |x| 0.6 * (1.0 + x / 0.002).powf(-0.2)),
        ("power -0.3", |x| 0.6 * (1.0 + x / 0.05).powf(-0.3)),
        ("power -0.5", |x| HEIGHT * (1.0 + x / 0.01).powf(-0.5)),
        ("power -1", |x| HEIGHT * (1.0 + x / 0.1).powf(-1.0)),
    ];
    for (name, curve) in curves {
        // And one that drowns the curve, which the least height no longer keeps out.
        for sd in NOISES.into_iter().chain([0.1]) {
            for correlation in [0.0, 0.5] {
                let found = share_found(&simulate(curve, sd, correlation));
                println!(
                    "{name}, noise {sd}, correlation {correlation}: {:.1} % taken for a step",
                    100.0 * found
                );
                assert!(found < 0.05, "{name}, noise {sd}, correlation {correlation}: {found}");
            }
        }
    }
}

/// What a kind of step may miss by: a bias of the midpoint that its drift or decay explains, as a
/// share of the run.
struct Kind {
    name: &'static str,
    curve: Curve,
    midpoint: f64,
    bias: f64,
}

#[test]
fn steps_are_found() {
    let kind = |name, curve, midpoint, bias| Kind { name, curve, midpoint, bias };
    let kinds = [
        kind("at 20 %", |x| step(x, 0.2, 0.02), 0.2, 0.002),
        kind("at 30 %", |x| step(x, 0.3, 0.05), 0.3, 0.002),
        kind("at 40 %", |x| step(x, 0.4, 0.03), 0.4, 0.002),
        kind("at 70 %", |x| step(x, 0.7, 0.03), 0.7, 0.002),
        kind("with a drift after it", |x| step(x, 0.4, 0.03) - (x - 0.4).max(0.0) / 6.0, 0.4, 0.02),
        kind("after a short decay", |x| step(x, 0.4, 0.03) + 0.15 * (-x / 0.03).exp(), 0.4, 0.01),
    ];
    for Kind { name, curve, midpoint, bias } in kinds {
        for sd in NOISES {
            for correlation in [0.0, 0.5] {
                let verdicts = simulate(curve, sd, correlation);
                let case = format!("{name}, noise {sd}, correlation {correlation}");
                let power = share_found(&verdicts);
                let run = *snapshots().last().expect("snapshots") as f64;
                let at: Vec<f64> =
                    verdicts.iter().flatten().map(|fit| fit.midpoint_tokens / run).collect();
                let mean = at.iter().sum::<f64>() / at.len() as f64;
                let spread = at.iter().map(|at| (at - mean).powi(2)).sum::<f64>() / at.len() as f64;
                println!(
                    "{case}: {:.1} % found, at {mean:.4} +- {:.4}",
                    100.0 * power,
                    spread.sqrt()
                );
                // With correlated noise fewer snapshots' worth is known; it is no promise of the
                // rule.
                assert!(power > if correlation == 0.0 { 0.95 } else { 0.94 }, "{case}: {power}");
                assert!((mean - midpoint).abs() < bias + 0.1 * sd, "{case}: {mean}");
                assert!(spread.sqrt() < 0.002 + 0.7 * sd, "{case}: {}", spread.sqrt());
            }
        }
    }
}

/// Over a third of the run, a step of ten errors' height is hardly told from a line.
#[test]
fn slow_steps_are_found_less_surely() {
    let slow = |x| step(x, 0.5, 0.08);
    let power = [0.01, 0.03].map(|sd| share_found(&simulate(slow, sd, 0.0)));
    println!("found {power:?}");
    assert!(power[0] > 0.99 && (0.6..0.95).contains(&power[1]), "{power:?}");
}

#[test]
fn levels_and_widths_are_recovered() {
    let fits: Vec<StepFit> =
        simulate(|x| 2.0 + step(x, 0.45, 0.05), 0.01, 0.0).into_iter().flatten().collect();
    assert_eq!(fits.len() as u64, CURVES);
    let mean = |value: fn(&StepFit) -> f64| fits.iter().map(value).sum::<f64>() / fits.len() as f64;
    let run = *snapshots().last().expect("snapshots") as f64;
    assert_relative_eq!(mean(|f| f.before), 2.0, epsilon = 0.001);
    assert_relative_eq!(mean(|f| f.after), 2.0 - HEIGHT, epsilon = 0.001);
    assert_relative_eq!(mean(StepFit::height), -HEIGHT, epsilon = 0.002);
    assert_relative_eq!(mean(|f| f.scale_tokens) / run, 0.05, epsilon = 0.001);
    assert_relative_eq!(mean(|f| f.residual), 0.01, epsilon = 0.001);
    let width = mean(|f| f.end_tokens() - f.start_tokens()) / run;
    assert_relative_eq!(width, 2.0 * 9f64.ln() * 0.05, epsilon = 0.005);
    let scales: Vec<f64> = fits.iter().map(|f| f.scale_tokens / run).collect();
    let spread = percentile_interval(&scales, 0.95).expect("finite").expect("values");
    assert!(0.035 < spread.low && spread.high < 0.065, "{spread:?}");
}

#[test]
fn a_clean_step_is_exact() {
    let tokens: Vec<u64> = (0..40).map(|k| 1000 + 50 * k).collect();
    for (direction, sign) in [(StepDirection::Rising, 1.0), (StepDirection::Falling, -1.0)] {
        let value = |&t: &u64| 3.0 + sign * 2.0 / (1.0 + (-(t as f64 - 1800.0) / 90.0).exp());
        let values: Vec<f64> = tokens.iter().map(value).collect();
        let config = StepConfig { direction, ..StepConfig::default() };
        let fit = find_step(&tokens, &values, Some(0.1), &config).expect("valid").expect("a step");
        assert_relative_eq!(fit.before, 3.0, epsilon = 1e-3);
        assert_relative_eq!(fit.after, 3.0 + sign * 2.0, epsilon = 1e-3);
        assert_relative_eq!(fit.midpoint_tokens, 1800.0, epsilon = 0.1);
        assert_relative_eq!(fit.scale_tokens, 90.0, epsilon = 0.1);
        assert!(fit.delta_aicc.is_finite() && fit.delta_aicc > 100.0);
    }
}

#[test]
fn a_jump_between_two_snapshots_lies_between_them() {
    let tokens: Vec<u64> = (0..30).map(|k| 100 * k).collect();
    let values: Vec<f64> = (0..30).map(|k| if k < 12 { 0.0 } else { -1.0 }).collect();
    let fit =
        find_step(&tokens, &values, None, &StepConfig::default()).expect("valid").expect("a step");
    assert!((1100.0..1200.0).contains(&fit.midpoint_tokens), "{fit:?}");
    assert!(fit.end_tokens() - fit.start_tokens() < 100.0, "{fit:?}");
}

#[test]
fn each_reason_is_given() {
    let tokens = snapshots();
    let verdict = |curve: &dyn Fn(f64) -> f64, stderr, config: &StepConfig| {
        let values = noisy(&tokens, curve, 0.001, 0.0, 0);
        find_step(&tokens, &values, stderr, config).expect("valid")
    };
    let config = StepConfig::default();
    let fall = |x: f64| step(x, 0.4, 0.03);
    let reason = |curve: &dyn Fn(f64) -> f64, stderr, config| {
        verdict(curve, stderr, config).expect_err("no step")
    };
    assert!(verdict(&fall, Some(0.09), &config).is_ok());
    assert!(matches!(reason(&|_| 1.0, None, &config), NoStep::Line { .. }));
    assert!(matches!(reason(&|x| 0.3 * (-x / 0.2).exp(), None, &config), NoStep::Decay { .. }));
    assert!(
        matches!(reason(&|x| -fall(x), None, &config), NoStep::Direction { height } if height > 0.29)
    );
    assert!(matches!(reason(&|x| fall(x) / 10.0, None, &config), NoStep::Small { .. }));
    assert!(matches!(reason(&fall, Some(0.11), &config), NoStep::InsideNoise { stderr: 0.11, .. }));
    // It accelerates to the end of the run: neither line nor decay, but nobody has seen it end.
    let unfinished = reason(&|x| step(x, 1.0, 0.06), None, &config);
    assert!(matches!(unfinished, NoStep::OneSided { after: 0, .. }), "{unfinished}");
    let strict = StepConfig { min_contrast: 1e4, ..config };
    assert!(matches!(reason(&fall, None, &strict), NoStep::Scatter { limit: 1e4, .. }));
    assert_eq!(
        reason(&fall, Some(0.2), &config).to_string(),
        "its step, of -0.300, is less than 3 standard errors of its height (0.200)"
    );
}

#[test]
fn a_constant_curve_has_none() {
    let constant =
        find_step(&snapshots(), &[0.0; 30], None, &StepConfig::default()).expect("valid");
    assert!(matches!(constant, Err(NoStep::Line { .. })));
    let offset = find_step(&snapshots(), &[1e9; 30], None, &StepConfig::default()).expect("valid");
    assert!(matches!(offset, Err(NoStep::Line { .. })));
}

#[test]
fn dense_early_snapshots_weigh_little() {
    // Half of the snapshots lie in the first hundredth of the run, and one of them is far off.
    let tokens: Vec<u64> = (0..20).chain((1..=20).map(|k| 100 * k)).collect();
    let mut values = noisy(&tokens, |x| step(x, 0.5, 0.03), 0.005, 0.0, 1);
    values[5] += 1.0;
    let fit =
        find_step(&tokens, &values, None, &StepConfig::default()).expect("valid").expect("a step");
    assert_relative_eq!(fit.midpoint_tokens, 1000.0, epsilon = 20.0);
    assert!((19.0..21.5).contains(&fit.effective_snapshots), "{fit:?}");
}

#[test]
fn bad_curves_are_refused() {
    let (tokens, config) = (snapshots(), StepConfig::default());
    let curve = |tokens: &[u64], values: &[f64]| match fit_step(tokens, values, &config) {
        Err(Error::Curve { expected, .. }) => expected,
        other => panic!("{other:?}"),
    };
    assert_eq!(curve(&tokens, &[0.0; 29]), "have one value for each snapshot, and at least one");
    assert_eq!(curve(&tokens[..7], &[0.0; 7]), "have at least 8 snapshots");
    assert_eq!(curve(&[], &[]), "have one value for each snapshot, and at least one");
    assert_eq!(curve(&[5; 9], &[0.0; 9]), "have increasing token counts");
    assert_eq!(curve(&tokens, &[f64::NAN; 30]), "have finite values");
    let doubling: Vec<u64> = (0..30).map(|k| 1 << k).collect();
    assert_eq!(curve(&doubling, &[0.0; 30]), "have snapshots that weigh as much as 7 even ones");
    for stderr in [-1.0, f64::NAN] {
        assert!(matches!(
            find_step(&tokens, &[0.0; 30], Some(stderr), &config),
            Err(Error::Setting { .. })
        ));
    }
    let bad = StepConfig { min_height: f64::NAN, ..config };
    assert!(matches!(
        fit_step(&tokens, &[0.0; 30], &bad),
        Err(Error::Setting { name: "min_height", .. })
    ));
    // The largest counts there are.
    let largest: Vec<u64> = (0..30).map(|k| u64::MAX - 29 + k).collect();
    assert!(
        fit_step(&largest, &noisy(&largest, |x| step(x, 0.5, 0.05), 0.001, 0.0, 0), &config)
            .is_ok()
    );
}

#[test]
fn a_prepared_search_finds_what_one_of_its_own_does() {
    let tokens = snapshots();
    let config = StepConfig::default();
    let search = StepSearch::new(&tokens, &config).expect("valid");
    for seed in 0..20 {
        let values = noisy(&tokens, |x| step(x, 0.4, 0.03), 0.01, 0.0, seed);
        assert_eq!(
            search.fit(&values).expect("valid"),
            fit_step(&tokens, &values, &config).expect("valid")
        );
    }
}
