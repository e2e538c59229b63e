//! A study's report: verdicts by its own rules, of fabricated runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use induction_report::{Verdict, build};
use serde_json::Value;

use crate::common::{Fabricated, two, write};
use crate::{folder, read};

/// Two variants of two seeds; `claims` are put in.
fn study(claims: &str) -> String {
    format!(
        r#"
format = 1
name = "fabricated"
title = "A fabricated study & more"
about = "Whether <b>rules</b> are kept."
seeds = [1, 2]

[base]
data = {{ source = "repeats", min_period = 8, max_period = 64 }}
model = {{ n_layers = 2, d_model = 128, n_heads = 4, d_head = 32, n_ctx = 512, d_vocab = 4096 }}
train = {{ tokens = 10_000_000, batch = 20, lr = 0.002, decay_share = 0.1 }}
snapshots = {{ every = 10 }}
evaluation = {{ examples = 500, icl_early = 50, icl_late = 500, icl_half_width = 5 }}

[[variants]]
name = "free"
label = "free"

[[variants]]
name = "given"
label = "something | given"
change = {{ model = {{ clamp = {{ kind = "previous-token", layer = 0, head = 0 }} }} }}

{claims}

[[figures]]
title = "Curves"
measures = ["icl", "prefix-matching"]
"#
    )
}

fn claim(id: &str, rest: &str) -> String {
    format!("[[claims]]\nid = \"{id}\"\ntitle = \"t\"\nexpected = \"e\"\nof = \"given\"\n{rest}\n")
}

fn earlier(holds: &str) -> String {
    claim(
        "V1",
        &format!("measure = \"time-to-half\"\nagainst = \"free\"\nby = \"ratio\"\nholds = {holds}"),
    )
}

/// Free runs change at 3M tokens, given ones at so many.
fn runs(dir: &Path, given: [f64; 2]) {
    for (seed, middle) in (1..).zip(given) {
        write(dir, &Fabricated { middle: 3e6, head_middle: 3e6, ..of("free", seed) });
        write(dir, &Fabricated { middle, head_middle: middle, ..of("given", seed) });
    }
}

fn of(variant: &str, seed: u64) -> Fabricated {
    let clamp = (variant == "given").then_some("previous-token");
    Fabricated { folder: format!("{variant}-seed-{seed}"), seed, text: None, clamp, ..two() }
}

fn judged(claims: &str, given: [f64; 2]) -> Vec<Value> {
    let dir = folder();
    runs(dir.path(), given);
    fs::write(dir.path().join("study.toml"), study(claims)).expect("a fresh folder");
    let report = build(dir.path()).expect("a study's folder");
    let found: Vec<Value> =
        serde_json::from_str(&read(&report.claims_file)).expect("claims are JSON");
    assert_eq!(found.len(), report.claims.len());
    found
}

#[test]
fn verdicts_are_those_of_the_mean_over_seeds() {
    for (given, holds, expected) in [
        ([1.4e6, 1.6e6], "{ at-most = 0.8 }", "reproduced"),
        ([2.9e6, 3.1e6], "{ at-most = 0.8 }\nweakly = { at-most = 1.1 }", "partly"),
        ([2.9e6, 3.1e6], "{ at-most = 0.8 }", "not"),
        ([5e6, 6e6], "{ above = 1.25 }", "reproduced"),
        ([2.9e6, 3.1e6], "{ above = 1.25 }", "not"),
    ] {
        let found = judged(&earlier(holds), given);
        assert_eq!(found[0]["verdict"], expected, "{given:?} {holds}: {}", found[0]["why"]);
    }
}

#[test]
fn ratios_have_a_geometric_mean_and_an_interval_over_seeds() {
    let found = judged(&earlier("{ at-most = 0.8 }"), [1.5e6, 1.5e6]);
    let ours: f64 = found[0]["ours"].as_str().unwrap_or_default().parse().expect("a number");
    // A change at half the time is over at half the time, but for the width that both have.
    assert!((ours - 0.5).abs() < 0.05, "{ours}");
    assert!(found[0]["interval"].as_str().is_some_and(|text| text.contains(" to ")));
    let apart = judged(&earlier("{ at-most = 0.8 }"), [0.5e6, 2.9e6]);
    let why = apart[0]["why"].as_str().unwrap_or_default();
    assert!(why.contains("Inside the noise"), "{why}");
    assert!(why.contains("By seed: "), "{why}");
}

#[test]
fn what_does_not_come_is_a_bound_and_said_to_be_one() {
    let dir = folder();
    runs(dir.path(), [1.5e6, 1.5e6]);
    for seed in [1, 2] {
        let never = Fabricated { after: 0.05, ..of("given", seed) };
        fs::remove_dir_all(dir.path().join("runs").join(&never.folder)).expect("it was written");
        write(dir.path(), &never);
    }
    fs::write(dir.path().join("study.toml"), study(&earlier("{ above = 1.25 }"))).expect("fresh");
    let report = build(dir.path()).expect("a study's folder");
    assert_eq!(report.claims[0].verdict, Verdict::Reproduced);
    assert!(report.claims[0].why.contains("Of 2 of them it did not come"));
    let table = read(&dir.path().join("claims.md"));
    assert!(table.contains("| something \\| given | 2 | did not come |"), "{table}");
}

#[test]
fn the_page_has_claims_figures_and_variants_and_no_foreign_markup() {
    let dir = folder();
    runs(dir.path(), [1.5e6, 1.6e6]);
    let level = claim("V2", "measure = \"prefix-matching\"\nholds = { above = 0.3 }");
    fs::write(dir.path().join("study.toml"), study(&level)).expect("a fresh folder");
    let report = build(dir.path()).expect("a study's folder");
    let page = read(&report.page);
    for part in ["id=\"claim-V2\"", "id=\"S1\"", "id=\"variants\"", "free-seed-1", "&lt;b&gt;rules"]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("<b>rules"));
    // The script that draws finds its data by an id, which nothing else may have.
    let ids: Vec<&str> =
        page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let different: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(different.len(), ids.len(), "{ids:?}");
    assert!(different.contains("figures"));
    for file in ["S1.svg", "S1.csv"] {
        assert!(dir.path().join("figures").join(file).exists(), "{file}");
    }
    // A run that is missing is told by the numbers.
    fs::remove_dir_all(dir.path().join("runs/given-seed-1")).expect("it was written");
    fs::remove_dir_all(dir.path().join("runs/given-seed-2")).expect("it was written");
    let report = build(dir.path()).expect("a study's folder");
    assert_eq!(report.claims[0].verdict, Verdict::OutOfReach);
}

/// Its why, and its verdict, which must be out of reach.
fn out_of_reach(dir: &Path) -> String {
    let report = build(dir).expect("a study's folder");
    assert_eq!(report.claims[0].verdict, Verdict::OutOfReach, "{}", report.claims[0].why);
    report.claims[0].why.clone()
}

#[test]
fn seeds_without_a_number_leave_a_claim_open_and_are_told() {
    let put = |claims: &str| {
        let dir = folder();
        runs(dir.path(), [1.5e6, 1.6e6]);
        fs::write(dir.path().join("study.toml"), study(claims)).expect("a fresh folder");
        dir
    };
    // Another spec than the study's, a run that diverged, one that is not done.
    let dir = put(&earlier("{ at-most = 0.8 }"));
    let run = dir.path().join("runs/given-seed-2");
    let spec = read(&run.join("spec.toml"));
    fs::write(run.join("spec.toml"), spec.replace("lr = 0.002", "lr = 0.003")).expect("written");
    let why = out_of_reach(dir.path());
    assert!(why.contains("given-seed-2 was made from another spec than the study's"), "{why}");
    assert!(read(&dir.path().join("claims.md")).contains("- given-seed-2 was made from"));
    fs::remove_file(run.join("measurements/meta.json")).expect("it was written");
    let why = out_of_reach(dir.path());
    assert!(why.contains("Seed 2 has no number: given-seed-2 is not done"), "{why}");
    fs::write(run.join("diverged.json"), "{}").expect("a fresh file");
    assert!(out_of_reach(dir.path()).contains("given-seed-2 diverged"));

    // A ratio over nothing; a time to half of nothing.
    let heads = claim(
        "V1",
        "measure = \"induction-heads\"\nagainst = \"free\"\nby = \"ratio\"\nholds = { at-most = 1 }",
    );
    let dir = put(&heads);
    write(dir.path(), &Fabricated { prefix_matching: 0.1, ..of("free", 1) });
    let why = out_of_reach(dir.path());
    assert!(why.contains("2.00 over 0.000 is no ratio"), "{why}");
    let dir = put(&earlier("{ at-most = 0.8 }"));
    write(dir.path(), &Fabricated { after: 0.04, drift: 0.0, ..of("free", 1) });
    let why = out_of_reach(dir.path());
    assert!(why.contains("free-seed-1 ends with no in-context learning to speak of"), "{why}");
}

/// Nothing at all is a share, and no ratio.
#[test]
fn a_share_may_be_nothing() {
    let judged = |by: &str| {
        let dir = folder();
        for seed in [1, 2] {
            write(dir.path(), &of("free", seed));
            // Prefix matching of every head is 0.1, so that none matches prefixes.
            write(dir.path(), &Fabricated { prefix_matching: 0.1, ..of("given", seed) });
        }
        let rest = format!(
            "measure = \"induction-heads\"\nagainst = \"free\"\nby = \"{by}\"\nholds = {{ below = 0.5 }}"
        );
        fs::write(dir.path().join("study.toml"), study(&claim("V1", &rest))).expect("fresh");
        build(dir.path()).expect("a study's folder").claims[0].clone()
    };
    assert_eq!(judged("ratio").verdict, Verdict::OutOfReach);
    let share = judged("share");
    assert_eq!((share.verdict, share.ours.as_str()), (Verdict::Reproduced, "0.000"));
}

#[test]
fn nats_of_other_texts_are_said_to_be_others() {
    let dir = folder();
    runs(dir.path(), [1.5e6, 1.6e6]);
    let compared = |id: &str, measure: &str| {
        claim(
            id,
            &format!(
                "measure = \"{measure}\"\nagainst = \"free\"\nby = \"ratio\"\nholds = {{ below = 2 }}"
            ),
        )
    };
    let claims = [compared("V1", "loss"), compared("V2", "prefix-matching")].concat();
    let why = |of: usize| build(dir.path()).expect("a study's folder").claims[of].why.clone();
    let text = study(&claims);
    fs::write(dir.path().join("study.toml"), &text).expect("a fresh folder");
    assert!(!why(0).contains("of different texts"), "{}", why(0));
    // The same with other sequences.
    let free = "{ model = { clamp = { kind = \"previous-token\", layer = 0, head = 0 } } }";
    let text = text.replace(free, "{ data = { min_period = 9 } }");
    fs::write(dir.path().join("study.toml"), text).expect("a fresh folder");
    for seed in [1, 2] {
        let run = Fabricated { clamp: None, ..of("given", seed) };
        fs::remove_dir_all(dir.path().join("runs").join(&run.folder)).expect("it was written");
        write(dir.path(), &run);
        let spec = dir.path().join("runs").join(&run.folder).join("spec.toml");
        fs::write(&spec, read(&spec).replace("min_period = 8", "min_period = 9")).expect("written");
    }
    assert!(why(0).contains("The two are of different texts or vocabularies"), "{}", why(0));
    assert!(!why(1).contains("of different texts"), "{}", why(1));
}
