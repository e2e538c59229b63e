//! A study's report: verdicts by its own rules, of fabricated runs.

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
train = {{ tokens = 1000, batch = 20, lr = 0.002 }}
snapshots = {{ every = 10 }}
evaluation = {{ examples = 500, icl_early = 50, icl_late = 500, icl_half_width = 5 }}

[[variants]]
name = "free"
label = "free"

[[variants]]
name = "given"
label = "something | given"
change = {{ train = {{ lr = 0.001 }} }}

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
        let of = |folder: &str, middle| Fabricated {
            folder: format!("{folder}-seed-{seed}"),
            seed,
            middle,
            head_middle: middle,
            text: None,
            ..two()
        };
        write(dir, &of("free", 3e6));
        write(dir, &of("given", middle));
    }
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
        let never = Fabricated { after: 0.05, folder: format!("given-seed-{seed}"), seed, ..two() };
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
    for file in ["S1.svg", "S1.csv"] {
        assert!(dir.path().join("figures").join(file).exists(), "{file}");
    }
    // A run that is missing is told by the numbers.
    fs::remove_dir_all(dir.path().join("runs/given-seed-1")).expect("it was written");
    fs::remove_dir_all(dir.path().join("runs/given-seed-2")).expect("it was written");
    let report = build(dir.path()).expect("a study's folder");
    assert_eq!(report.claims[0].verdict, Verdict::OutOfReach);
}
