//! What was found against what was expected.

use serde_json::Value;

use super::{
    json,
    junit::{Outcome, columns},
    list,
};
use crate::bench;

/// What is compared of a claim, beside its id.
const PARTS: [&str; 3] = ["verdict", "ours", "interval"];

/// Steps shown that differ, at most: from the first on, all do.
const SHOWN: usize = 20;

/// Judges tokens a second, ours and the base's, of each round: by the median of the ratios of
/// times.
pub(super) fn compare_times(rounds: &[[f64; 2]], base: &str, slower: f64) -> Outcome {
    let ratios: Vec<f64> = rounds.iter().map(|[ours, theirs]| theirs / ours).collect();
    let [ours, theirs] =
        [0, 1].map(|i| bench::median(rounds.iter().map(|round| round[i]).collect()));
    let each: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
    let ratio = bench::median(ratios);
    let figures = format!(
        "{ratio:.3} of the time of {base} ({}); {ours:.0} against {theirs:.0} tokens/s, median of {}",
        each.join(" "),
        rounds.len(),
    );
    if ratio > slower {
        Outcome::Failed(format!("{figures}; at most {slower:.2} is allowed"))
    } else {
        Outcome::Passed(figures)
    }
}

/// Compares a log and the hashes of its last snapshot with those of expected.json.
pub(super) fn compare_steps(expected: &Value, log: &str, manifest: &Value) -> Outcome {
    let losses: Vec<Option<f64>> =
        log.lines().map(|line| json(line).ok()?["loss"].as_f64()).collect();
    let wanted = list(&expected["losses"]);
    let show = |loss: Option<f64>| loss.map_or("none".to_string(), |loss| loss.to_string());
    let mut rows = Vec::new();
    for step in 0..losses.len().max(wanted.len()) {
        let pair = [wanted.get(step).and_then(Value::as_f64), losses.get(step).copied().flatten()];
        if pair[0] != pair[1] || pair[0].is_none() {
            rows.push([format!("loss of step {}", step + 1), show(pair[0]), show(pair[1])]);
        }
    }
    let steps = rows.len();
    for (name, file) in [("weights", "model.safetensors"), ("optimizer", "optim.safetensors")] {
        let file = list(manifest).iter().find(|entry| entry["name"] == *file);
        let pair =
            [expected.get(format!("{name}_blake3")), file.and_then(|file| file.get("blake3"))];
        let [wanted, found] =
            pair.map(|hash| hash.and_then(Value::as_str).unwrap_or("none").to_string());
        if wanted != found || found == "none" {
            rows.push([format!("{name}, blake3"), wanted, found]);
        }
    }
    if rows.is_empty() {
        return Outcome::Passed(format!("{} losses and 2 hashes as expected", losses.len()));
    }
    let summary =
        format!("{steps} of {} losses and {} of 2 hashes differ", wanted.len(), rows.len() - steps);
    Outcome::Failed(format!("{summary}\n{}", differences(["what", "expected", "found"], &rows)))
}

/// A table of the first differences, and how many more there are.
fn differences(header: [&str; 3], rows: &[[String; 3]]) -> String {
    let mut table = columns(header, &rows[..rows.len().min(SHOWN)]);
    if rows.len() > SHOWN {
        table += &format!("and {} more\n", rows.len() - SHOWN);
    }
    table
}

/// A claim's id, and its parts as texts.
fn parts(claim: &Value) -> (String, [String; PARTS.len()]) {
    let text = |part: &str| claim[part].as_str().unwrap_or("none").to_string();
    (text("id"), PARTS.map(text))
}

pub(super) fn compare_claims(expected: &Value, found: &Value) -> Outcome {
    let [wanted, found] =
        [expected, found].map(|claims| list(claims).iter().map(parts).collect::<Vec<_>>());
    let mut rows = Vec::new();
    let mut claims = 0;
    let of = |claims: &[(String, [String; 3])], id: &str| {
        claims.iter().find(|(other, _)| other == id).map(|(_, parts)| parts.clone())
    };
    let added = found.iter().filter(|(id, _)| of(&wanted, id).is_none());
    for (id, _) in wanted.iter().chain(added) {
        let before = rows.len();
        match (of(&wanted, id), of(&found, id)) {
            (Some(wanted), Some(found)) => {
                for ((part, wanted), found) in PARTS.iter().zip(wanted).zip(found) {
                    if wanted != found {
                        rows.push([format!("{id} {part}"), wanted, found]);
                    }
                }
            }
            (wanted, _) => {
                let there = |is: bool| if is { "a claim" } else { "no such claim" }.to_string();
                rows.push([id.clone(), there(wanted.is_some()), there(wanted.is_none())]);
            }
        }
        claims += usize::from(rows.len() > before);
    }
    if rows.is_empty() && !wanted.is_empty() {
        return Outcome::Passed(format!("{} claims as expected", wanted.len()));
    }
    let summary = format!("{claims} of {} claims differ", wanted.len());
    Outcome::Failed(format!("{summary}\n{}", columns(["claim", "expected", "found"], &rows)))
}

/// What smoke-claims.json holds: a claim a line.
pub(super) fn golden_claims(claims: &Value) -> String {
    let lines = list(claims).iter().map(|claim| {
        let member = |name: &str| format!("\"{name}\": {}", claim[name]);
        let members: Vec<String> = ["id"].into_iter().chain(PARTS).map(member).collect();
        format!("  {{{}}}", members.join(", "))
    });
    format!("[\n{}\n]\n", lines.collect::<Vec<_>>().join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_and_hashes_are_compared() {
        let expected =
            r#"{"losses": [6.25, 5.5], "weights_blake3": "aa", "optimizer_blake3": "bb"}"#;
        let expected = json(expected).unwrap();
        let manifest = r#"[{"name": "model.safetensors", "blake3": "aa"}, {"name": "optim.safetensors", "blake3": "bb"}]"#;
        let compare =
            |log: &str, manifest: &str| compare_steps(&expected, log, &json(manifest).unwrap());
        let log = "{\"loss\":6.25}\n{\"loss\":5.5}\n";
        assert_eq!(
            compare(log, manifest),
            Outcome::Passed("2 losses and 2 hashes as expected".into())
        );
        let other =
            compare("{\"loss\":6.25}\n{\"loss\":5.5000005}\n", &manifest.replace("bb", "bc"));
        let text = "1 of 2 losses and 1 of 2 hashes differ\n\
                    what               expected  found\n\
                    loss of step 2     5.5       5.5000005\n\
                    optimizer, blake3  bb        bc\n";
        assert_eq!(other, Outcome::Failed(text.into()));
        for log in [
            "",
            "{\"loss\":6.25}\n",
            "{\"loss\":6.25}\n{\"loss\":5.5}\n{\"loss\":5}\n",
            "{\"loss\":6.25}\nx\n",
        ] {
            assert!(matches!(compare(log, manifest), Outcome::Failed(_)), "{log:?}");
        }
        assert!(matches!(compare(log, "[]"), Outcome::Failed(_)));
    }

    #[test]
    fn claims_are_compared() {
        let text = r#"[{"id": "Q1", "verdict": "not", "ours": "-0.30 nats", "interval": null, "why": "so"},
                       {"id": "Q2", "verdict": "partly", "ours": "1", "interval": "0 to 2"}]"#;
        let expected = json(&golden_claims(&json(text).unwrap())).unwrap();
        let compare = |text: &str| compare_claims(&expected, &json(text).unwrap());
        assert_eq!(compare(text), Outcome::Passed("2 claims as expected".into()));
        let found = compare(
            &text
                .replace("\"not\"", "\"reproduced\"")
                .replace("null", "\"1 to 2\"")
                .replace("Q2", "Q3"),
        );
        let table = "3 of 2 claims differ\n\
                     claim        expected       found\n\
                     Q1 verdict   not            reproduced\n\
                     Q1 interval  none           1 to 2\n\
                     Q2           a claim        no such claim\n\
                     Q3           no such claim  a claim\n";
        assert_eq!(found, Outcome::Failed(table.into()));
        assert!(matches!(compare_claims(&Value::Null, &Value::Null), Outcome::Failed(_)));
    }

    #[test]
    fn of_many_differences_some_are_shown() {
        let rows: Vec<[String; 3]> =
            (0..25).map(|i| [i.to_string(), "a".into(), "b".into()]).collect();
        let table = differences(["x", "y", "z"], &rows);
        assert!(table.lines().count() == 22 && table.ends_with("and 5 more\n"), "{table}");
    }

    #[test]
    fn times_are_judged_by_the_median_of_paired_ratios() {
        // One round beside other work is no regression.
        let noisy = [[100.0, 100.0], [50.0, 100.0], [100.0, 105.0]];
        let passed =
            "1.050 of the time of abc (1.00 2.00 1.05); 100 against 100 tokens/s, median of 3";
        assert_eq!(compare_times(&noisy, "abc", 1.1), Outcome::Passed(passed.into()));
        let Outcome::Failed(text) = compare_times(&[[80.0, 100.0]; 5], "abc", 1.1) else {
            panic!("25 % slower passed")
        };
        assert!(
            text.starts_with("1.250 of the time") && text.ends_with("at most 1.10 is allowed"),
            "{text}"
        );
    }
}
