//! The main job through the real binary, at the smallest scale.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{collections::BTreeMap, path::Path, time::Instant};

use crate::common::{TINY, fail, induction, spec, succeed};
use serde_json::Value;

fn rows(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The best prefix-matching score of each snapshot, in order.
fn best_prefix_matching(run: &Path) -> Vec<f64> {
    let mut best = BTreeMap::<u64, f64>::new();
    for row in rows(&run.join("measurements/heads.jsonl")) {
        let entry = best.entry(row["step"].as_u64().unwrap()).or_insert(0.0);
        *entry = entry.max(row["prefix_matching"].as_f64().unwrap());
    }
    best.into_values().collect()
}

#[test]
fn smoke_shows_the_contrast_and_is_never_done_twice() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut reproduce = induction();
    reproduce.args(["reproduce", "--scale", "smoke", "--out"]).arg(&out);
    let begun = Instant::now();
    let printed = succeed(&mut reproduce);
    let whole = begun.elapsed();
    println!("smoke took {:.0} s", whole.as_secs_f64());
    assert!(printed.contains("report.html"), "{printed}");

    let run = |name: &str| out.join("runs").join(name);
    let best = |name: &str| best_prefix_matching(&run(name));
    let icl = |name: &str| {
        rows(&run(name).join("measurements/icl.jsonl")).last().unwrap()["icl_score"]
            .as_f64()
            .unwrap()
    };
    assert!(best("1L").iter().all(|&score| score < 0.2), "{:?}", best("1L"));
    assert!(*best("2L").last().unwrap() > 0.4, "{:?}", best("2L"));
    assert!(*best("1L-smeared").last().unwrap() > 0.5, "{:?}", best("1L-smeared"));
    assert!(*best("2L-smeared").last().unwrap() > 0.5, "{:?}", best("2L-smeared"));
    assert!(icl("2L") < icl("1L") - 0.5, "{} {}", icl("2L"), icl("1L"));

    let claims: Vec<Value> =
        serde_json::from_str(&std::fs::read_to_string(out.join("claims.json")).unwrap()).unwrap();
    let ids: Vec<&str> = claims.iter().map(|claim| claim["id"].as_str().unwrap()).collect();
    let every: Vec<&str> = induction_report::RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(ids, every);
    // The sweep is part of the job; clamped models are asked for, families and controls are another
    // scale, and there is neither a text nor a scan of a trained model.
    let absent = [
        "Q12", "Q13", "Q14", "Q17", "Q18", "Q19", "Q20", "Q21", "Q23", "A2", "N1", "N2", "P1",
        "P2", "M4", "M6", "M7", "M8",
    ];
    let judged = |claim: &&Value| !absent.contains(&claim["id"].as_str().unwrap());
    assert!(
        claims.iter().filter(judged).all(|claim| claim["probability"].is_number()),
        "{claims:#?}"
    );
    let verdict = |id: &str| {
        claims.iter().find(|claim| claim["id"] == id).unwrap()["verdict"].as_str().unwrap()
    };
    for id in ["Q1", "Q3", "Q4", "Q5", "Q6", "Q9", "K2", "L1"] {
        assert_eq!(verdict(id), "reproduced", "{id}");
    }
    assert!(
        claims
            .iter()
            .filter(|claim| !judged(claim))
            .all(|claim| claim["verdict"] == "out-of-reach")
    );
    let pca = rows(&out.join("series/pca.jsonl"));
    assert_eq!(pca.len(), 4 * rows(&run("2L").join("measurements/icl.jsonl")).len());
    assert!(
        pca.iter().any(|row| row["in_window"] == true) && pca.iter().all(|row| row["pc1"].is_f64())
    );

    let read = |name: &str| std::fs::read(out.join(name)).unwrap();
    let first = (read("report.html"), read("claims.json"));
    let begun = Instant::now();
    succeed(&mut reproduce);
    let again = begun.elapsed();
    // Of the first call: other tests keep the cores busy, too. What is left is the report.
    assert!(again < whole / 2, "nothing was left to do, but it took {again:?} of {whole:?}");
    assert!(
        first == (read("report.html"), read("claims.json")),
        "the same runs must give the same report"
    );

    // Another seed in the same folder is refused, once, before any work.
    let message = fail(
        induction().args(["reproduce", "--scale", "smoke", "--seed", "1", "--out"]).arg(&out),
        2,
    );
    assert!(
        message.contains("another spec")
            && message.contains("seed")
            && message.lines().count() == 1,
        "{message}"
    );

    // Only what is missing is made again.
    let kept = run("2L").join("snapshots/step-00000001/model.safetensors");
    let written = std::fs::metadata(&kept).unwrap().modified().unwrap();
    std::fs::remove_dir_all(run("1L").join("measurements")).unwrap();
    succeed(&mut reproduce);
    assert_eq!(std::fs::metadata(&kept).unwrap().modified().unwrap(), written);
    assert!(
        first == (read("report.html"), read("claims.json")),
        "a measurement made again must be the same"
    );
}

#[test]
fn scan_and_export_speak_of_the_trained_model() {
    let folder = tempfile::tempdir().unwrap();
    let (run, tokens, export) =
        (folder.path().join("run"), folder.path().join("tokens.json"), folder.path().join("tl"));
    succeed(induction().arg("train").arg(spec(folder.path(), TINY)).arg("--out").arg(&run));
    std::fs::write(&tokens, "[0, 3, 4, 5, 3, 4, 5]").unwrap();
    let scan = succeed(
        induction()
            .args(["--json", "scan"])
            .arg(&run)
            .arg("--tokens")
            .arg(&tokens)
            .args(["--pattern", "1:0"]),
    );
    let scan: Value = serde_json::from_str(&scan).unwrap();
    assert_eq!(scan["nll"].as_array().unwrap().len(), 6);
    assert_eq!(scan["heads"].as_array().unwrap().len(), 4);
    let pattern = scan["pattern"].as_array().unwrap();
    for (query, row) in pattern.iter().enumerate() {
        let row: Vec<f64> = row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        assert!(
            (row.iter().sum::<f64>() - 1.0).abs() < 1e-5
                && row[query + 1..].iter().all(|&x| x == 0.0),
            "{row:?}"
        );
    }
    let mut command = induction();
    command
        .args(["--json", "export"])
        .arg(&run)
        .args(["--step", "200", "--format", "transformer-lens", "--out"])
        .arg(&export);
    succeed(&mut command);
    let config: Value =
        serde_json::from_str(&std::fs::read_to_string(export.join("config.json")).unwrap())
            .unwrap();
    assert_eq!(config["positional_embedding_type"], "shortformer");
    assert!(export.join("model.safetensors").exists());
}

#[test]
fn measure_stands_alone_and_repeats_itself() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(induction().arg("train").arg(spec(folder.path(), TINY)).arg("--out").arg(&run));
    let measure = || {
        succeed(induction().arg("measure").arg(&run));
        TABLES.map(|name| std::fs::read(run.join("measurements").join(name)).unwrap())
    };
    let first = measure();
    assert_eq!(rows(&run.join("measurements/icl.jsonl")).len(), 16); // 0, 1, 2, 4, 8, 16, 20, 40, ..., 200
    std::fs::remove_dir_all(run.join("measurements")).unwrap();
    assert!(measure() == first);
    // A table that lost a line is made whole again.
    let path = run.join("measurements/icl.jsonl");
    std::fs::write(&path, "{\"step\": 0, \"tok").unwrap();
    assert!(measure() == first);
    // And so are the losses of a snapshot.
    let losses = run.join("measurements/losses/step-00000020.safetensors");
    let bytes = std::fs::read(&losses).unwrap();
    std::fs::remove_file(&losses).unwrap();
    assert!(measure() == first);
    assert!(std::fs::read(&losses).unwrap() == bytes);
    // What a process that was killed was writing goes.
    let left = ["", "losses/"].map(|at| run.join("measurements").join(format!("{at}.tmp-x-1-0-9")));
    left.iter().for_each(|path| std::fs::write(path, "half").unwrap());
    std::fs::remove_file(&losses).unwrap();
    assert!(measure() == first && left.iter().all(|path| !path.exists()));
    // Distances to simple predictors have files of their own, which a run of before they were taken
    // lacks: they are filled in, and nothing else is measured again.
    let tables =
        ["distances.jsonl", "distances.json"].map(|name| run.join("measurements").join(name));
    let read = || tables.clone().map(|path| std::fs::read(path).unwrap());
    let distances = read();
    tables.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let icl = || std::fs::metadata(run.join("measurements/icl.jsonl")).unwrap().modified().unwrap();
    let before = icl();
    assert!(measure() == first && read() == distances && icl() == before);
    let rows = rows(&tables[0]);
    assert_eq!(rows.len(), 16);
    // What is trained on repeats of random tokens begins even, and comes near to what copies.
    let distance = |row: &Value, name: &str| row[name].as_f64().unwrap();
    assert!(distance(&rows[15], "induction") < distance(&rows[0], "induction"), "{rows:?}");
    assert!(rows.iter().all(|row| distance(row, "uniform_stderr") > 0.0));
}

#[test]
fn llc_stands_alone_goes_on_and_repeats_itself() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(induction().arg("train").arg(spec(folder.path(), TINY)).arg("--out").arg(&run));
    let short = ["--examples", "16", "--chains", "2", "--burn-in", "3", "--draws", "4"];
    let llc = |threads: &str, more: &[&str]| {
        let mut command = induction();
        command.args(["--json", "--threads", threads, "llc"]).arg(&run).args(["--every", "4"]);
        let printed = succeed(command.args(short).args(more));
        let tables = ["llc.jsonl", "llc.json", "llc.safetensors"];
        (printed, tables.map(|name| std::fs::read(run.join("measurements").join(name)).unwrap()))
    };
    let first = llc("1", &[]);
    std::fs::remove_dir_all(run.join("measurements")).unwrap();
    assert!(llc("3", &[]) == first, "threads");
    let table = || rows(&run.join("measurements/llc.jsonl"));
    let whole = table();
    // Of 16 snapshots every fourth, the last among them.
    assert_eq!(whole.len(), 4);
    assert!(whole.iter().all(|row| row["head"].is_null() && row["llc"].is_f64()), "{whole:?}");
    let printed: Value = serde_json::from_str(&first.0).unwrap();
    assert_eq!(printed["last"][0], whole[3]);
    // Heads are added to what is there, and one that is there is not sampled again.
    let with_one = llc("2", &["--heads", "1.1"]);
    let with_all = llc("2", &["--heads", "all"]);
    let heads = table();
    assert_eq!(heads.len(), 4 * 5);
    assert!(heads.iter().filter(|row| row["head"].is_null()).eq(&whole));
    assert!(llc("2", &["--heads", "1.1"]).1 == with_all.1);
    let ones = |bytes: &[u8]| {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let head = |line: &&str| line.contains("\"layer\":1,\"head\":1,");
        text.lines().filter(head).map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(ones(&with_one.1[0]).len(), 4);
    assert_eq!(ones(&with_one.1[0]), ones(&with_all.1[0]));
    // Other constants make the table anew.
    llc("2", &["--localization", "50"]);
    let anew = table();
    assert!(anew.len() == 4 && anew.iter().zip(&whole).all(|(a, b)| a["llc"] != b["llc"]));
    // What the model does not have, or what is no number of steps, is refused.
    for (wrong, said) in [
        (["--heads", "2.0"], "2 layers of 2 heads"),
        (["--heads", "x"], "layer.head"),
        (["--step-size", "0"], "step_size"),
        (["--examples", "2"], "3 or more"),
        (["--draws", "1"], "draws"),
    ] {
        let error = fail(induction().arg("llc").arg(&run).args(wrong), 2);
        assert!(error.contains(said), "{wrong:?}: {error}");
    }
}

#[test]
fn ablate_stands_alone_goes_on_and_repeats_itself() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(induction().arg("train").arg(spec(folder.path(), TINY)).arg("--out").arg(&run));
    let measurements = run.join("measurements");
    let tables = [
        "ablations.jsonl",
        "knockouts.jsonl",
        "ablations.json",
        "ablations/step-00000020.safetensors",
    ];
    let ablate = || {
        let printed = succeed(induction().args(["--json", "ablate"]).arg(&run));
        (printed, tables.map(|name| std::fs::read(measurements.join(name)).unwrap()))
    };
    let first = ablate();
    let printed: Value = serde_json::from_str(&first.0).unwrap();
    assert_eq!(printed["heads"].as_array().unwrap().len(), 4);
    let sweep = rows(&measurements.join("ablations.jsonl"));
    assert_eq!(sweep.len(), 16 * 4 * 2, "snapshots, heads, kinds");
    for pair in sweep.chunks_exact(2) {
        assert_eq!(
            (&pair[0]["downstream"], &pair[1]["downstream"]),
            (&"full".into(), &"pattern-preserving".into())
        );
        let same = pair[0]["icl_change_by_example"] == pair[1]["icl_change_by_example"];
        assert!(pair[0]["layer"] == 0 || same, "nothing attends after the last layer");
        for change in ["icl_change", "same_token_change"] {
            let by_example = &pair[0][format!("{change}_by_example")];
            let by_example: Vec<f64> =
                by_example.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            let mean = by_example.iter().sum::<f64>() / by_example.len() as f64;
            assert!((mean - pair[0][change].as_f64().unwrap()).abs() < 1e-6, "{change}");
            assert!(pair[0][format!("{change}_stderr")].is_f64(), "{change}");
        }
    }
    let meta: Value = serde_json::from_slice(&first.1[2]).unwrap();
    let along = |row: &Value| row["undone_by_example"].as_array().unwrap().len();
    let expected = meta["change"]["squares"].as_array().map_or(0, Vec::len);
    assert!(
        meta["change"].is_null() == (expected == 0)
            && sweep.iter().all(|row| along(row) == expected),
        "{meta}"
    );
    let knockouts = rows(&measurements.join("knockouts.jsonl"));
    let named = |name: &str| knockouts.iter().filter(|row| row["name"] == name).count();
    assert_eq!((named("clean"), named("remove"), named("mean"), named("resample")), (1, 4, 8, 8));
    // A head removed in the sweep and among the knockouts is one thing.
    let (clean, removed) =
        (&knockouts[0], knockouts.iter().find(|row| row["name"] == "remove").unwrap());
    let last = &sweep[sweep.len() - 8];
    for (score, change) in [("icl_score", "icl_change"), ("same_token_score", "same_token_change")]
    {
        let [clean, removed] = [clean, removed].map(|row| row[score].as_f64().unwrap());
        assert!((removed - clean - last[change].as_f64().unwrap()).abs() < 1e-6, "{score}");
    }
    // The whole model under no ablation is the model that was measured, on all of its examples
    // here.
    let measured = &rows(&measurements.join("icl.jsonl")).pop().unwrap();
    for [knockout, measured] in [
        [&clean["same_token_score"], &measured["same_token_score"]],
        [&clean["icl_score"], &measured["icl_score"]],
    ] {
        assert!((knockout.as_f64().unwrap() - measured.as_f64().unwrap()).abs() < 1e-9);
    }

    // Whatever is lost is made again, to the same bytes: all of it, a snapshot, the knockouts.
    std::fs::remove_file(measurements.join("ablations.json")).unwrap();
    assert!(ablate() == first);
    std::fs::remove_file(measurements.join("ablations/step-00000020.safetensors")).unwrap();
    assert!(ablate() == first);
    std::fs::remove_file(measurements.join("knockouts.jsonl")).unwrap();
    assert!(ablate() == first);
    std::fs::write(measurements.join("ablations.jsonl"), "{\"step\": 0, \"tok").unwrap();
    assert!(ablate() == first);
    // Tables that are held against another change, or of an earlier version, are no longer true.
    let other = |key: &str, value: Value| {
        let mut meta = meta.clone();
        meta[key] = value;
        std::fs::write(measurements.join("ablations.json"), meta.to_string()).unwrap();
    };
    other("change", serde_json::json!({"before_step": 0, "after_step": 200, "squares": [1.0]}));
    assert!(ablate() == first);

    // Without a snapshot's weights they stay as they are: less would take their place.
    other("version", 1.into());
    let kept = tables.map(|name| std::fs::read(measurements.join(name)).unwrap());
    std::fs::remove_file(run.join("snapshots/step-00000020/model.safetensors")).unwrap();
    let message = fail(induction().arg("ablate").arg(&run), 2);
    assert!(
        message.contains("step-00000020") && message.contains("the tables stay as they are"),
        "{message}"
    );
    assert!(tables.map(|name| std::fs::read(measurements.join(name)).unwrap()) == kept);
}

#[test]
fn a_clamp_is_part_of_the_model_from_training_to_measuring() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let text = format!("{TINY}\n[model.clamp]\nkind = \"previous-token\"\nlayer = 0\nhead = 1\n");
    succeed(induction().arg("train").arg(spec(folder.path(), &text)).arg("--out").arg(&run));
    succeed(induction().arg("measure").arg(&run));
    for row in rows(&run.join("measurements/heads.jsonl")) {
        let score = row["previous_token"].as_f64().unwrap();
        assert_eq!(
            score == 1.0,
            (row["layer"].as_u64(), row["head"].as_u64()) == (Some(0), Some(1)),
            "{score}"
        );
    }
    let message = fail(
        induction()
            .args(["export", "--step", "200", "--format", "transformer-lens", "--out", "x"])
            .arg(&run),
        2,
    );
    assert!(message.contains("clamp"), "{message}");
    let bad = text.replace("head = 1", "head = 7");
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let message = fail(
        induction().arg("train").arg(spec(&other, &bad)).arg("--out").arg(other.join("run")),
        2,
    );
    assert!(message.contains("model.clamp.head = 7"), "{message}");
}

const TABLES: [&str; 7] = [
    "loss_by_index.jsonl",
    "icl.jsonl",
    "random_tokens.jsonl",
    "heads.jsonl",
    "composition.jsonl",
    "summary.json",
    "evaluation.safetensors",
];

#[test]
fn every_measure_has_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(induction().arg("train").arg(spec(folder.path(), TINY)).arg("--out").arg(&run));
    succeed(induction().arg("measure").arg(&run));
    let table = |name: &str| rows(&run.join("measurements").join(name));
    let last = |name: &str| table(name).pop().unwrap();
    let lengths = |row: &Value, keys: &[(&str, usize)]| {
        for (key, length) in keys {
            assert_eq!(row[key].as_array().map(Vec::len), Some(*length), "{key} of {row}");
        }
    };
    let loss = last("loss_by_index.jsonl");
    lengths(&loss, &[("loss_by_index", 24), ("by_example", 8), ("icl_sensitivity", 24)]);
    assert_eq!(
        loss["d_loss_d_ln_index"].as_array().unwrap().len(),
        loss["derivative_index"].as_array().unwrap().len()
    );
    lengths(&last("icl.jsonl"), &[("by_example", 8), ("late_slope_by_example", 8)]);
    lengths(&last("random_tokens.jsonl"), &[("losses", 8)]);
    // 2 heads before, 2 after, 3 inputs.
    assert_eq!(table("composition.jsonl").len(), 16 * 2 * 2 * 3);
    let heads = table("heads.jsonl");
    assert_eq!(heads.len(), 16 * 4);
    let head = heads.last().unwrap();
    for measure in [
        "previous_token",
        "prefix_matching",
        "copying",
        "induction_head_mul",
        "attribution_matched",
    ] {
        for name in [measure.to_string(), format!("{measure}_stderr"), format!("{measure}_10")] {
            assert!(head[&name].is_f64(), "{name} of {head}");
        }
    }
    for name in [
        "ov_copying",
        "qk_trace",
        "k_composition_recall",
        "ov_copy_recall",
        "previous_position_recall",
    ] {
        assert!(head[name].is_f64(), "{name} of {head}");
    }
    assert!(head["role"].is_string() && heads[0]["qk_trace"].is_null());
    let summary: Value = serde_json::from_str(
        &std::fs::read_to_string(run.join("measurements/summary.json")).unwrap(),
    )
    .unwrap();
    assert!(
        summary["ceiling"]["icl_score"].is_f64() && summary["predicted_onset_tokens"].is_f64(),
        "{summary}"
    );
    assert!(summary["window"].is_object() != summary["no_window"].is_string(), "{summary}");
}

#[test]
fn explore_stands_alone_goes_on_and_repeats_itself() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(induction().arg("train").arg(spec(folder.path(), TINY)).arg("--out").arg(&run));
    let measurements = run.join("measurements");
    let files = [
        "text.json",
        "text.jsonl",
        "explore.json",
        "prompts.jsonl",
        "maps/step-00000200.safetensors",
    ];
    let explore = || {
        succeed(induction().arg("explore").arg(&run));
        files.map(|name| std::fs::read(measurements.join(name)).unwrap())
    };
    let first = explore();
    let text = rows(&measurements.join("text.jsonl"));
    assert_eq!(text.len(), 16);
    assert!(text.iter().all(|row| row["losses"].as_array().unwrap().len() == 24));
    assert!(first[3].is_empty(), "synthetic data have no text to prompt with");
    let file = safetensors::SafeTensors::deserialize(&first[4]).unwrap();
    let attention = file.tensor("attention").unwrap();
    assert_eq!(attention.shape(), [2, 2, 24, 24]);
    // The attention that scan gives, in 255ths.
    let tokens = folder.path().join("tokens.json");
    let stored: Value = serde_json::from_slice(&first[0]).unwrap();
    let mut ids = vec![0];
    ids.extend(stored["ids"].as_array().unwrap()[..23].iter().map(|id| id.as_u64().unwrap()));
    std::fs::write(&tokens, serde_json::to_string(&ids).unwrap()).unwrap();
    let scan = succeed(
        induction()
            .args(["--json", "scan"])
            .arg(&run)
            .arg("--tokens")
            .arg(&tokens)
            .args(["--pattern", "1:0"]),
    );
    let scan: Value = serde_json::from_str(&scan).unwrap();
    for (query, row) in scan["pattern"].as_array().unwrap().iter().enumerate() {
        for (key, share) in row.as_array().unwrap().iter().enumerate() {
            let kept = f64::from(attention.data()[(2 * 24 + query) * 24 + key]) / 255.0;
            assert!(
                (kept - share.as_f64().unwrap()).abs() < 0.0021,
                "{query} {key}: {kept} for {share}"
            );
        }
    }

    // Whatever is lost is made again, to the same bytes.
    for name in files {
        std::fs::remove_file(measurements.join(name)).unwrap();
        assert!(explore() == first, "{name}");
    }
    std::fs::write(measurements.join("text.jsonl"), "{\"step\": 0, \"tok").unwrap();
    assert!(explore() == first);
}

/// A study through its command: runs of every variant and seed, with a clamp that comes and goes, the
/// study's own report; and what is refused.
#[test]
fn a_study_is_made_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let spec: toml::Table = TINY.parse().unwrap();
    let mut base = spec.clone();
    for key in ["format", "name", "seed"] {
        base.remove(key);
    }
    let study = format!(
        r#"
format = 1
name = "tiny"
title = "Tiny"
about = "Whether it runs."
seeds = [1, 2]
{}
[[variants]]
name = "free"
label = "free"
[[variants]]
name = "late"
label = "induction forbidden at first"
change = {{ train = {{ optimizer = "muon", clamps = [{{ clamp = {{ kind = "forbid-induction" }}, until = 60 }}] }} }}
[[variants]]
name = "copy"
label = "copy given"
change = {{ model = {{ clamp = {{ kind = "copy", layer = 1, head = 0 }} }}, train = {{ loss = {{ without = "induction" }} }} }}
[[claims]]
id = "V1"
title = "t"
expected = "e"
measure = "loss"
of = "late"
against = "free"
by = "difference"
holds = {{ below = 10.0 }}
[[figures]]
title = "Curves"
measures = ["loss", "prefix-matching"]
"#,
        toml::Table::from_iter([("base".to_string(), toml::Value::Table(base))])
    );
    let file = folder.path().join("study.toml");
    std::fs::write(&file, &study).unwrap();
    let out = folder.path().join("out");
    let reproduce = |out: &Path| {
        let mut command = induction();
        command.args(["reproduce", "--study"]).arg(&file).arg("--out").arg(out);
        command
    };
    succeed(&mut reproduce(&out));
    let claims: Vec<Value> =
        serde_json::from_str(&std::fs::read_to_string(out.join("claims.json")).unwrap()).unwrap();
    assert_eq!(
        (claims[0]["id"].as_str(), claims[0]["verdict"].as_str()),
        (Some("V1"), Some("reproduced"))
    );
    // What is measured of a snapshot is under what held then: step 40 lies within the clamp's time.
    let run = out.join("runs/late-seed-1");
    let clamped = |step: &str| {
        let config = run.join(format!("snapshots/step-{step}/config.json"));
        serde_json::from_str::<Value>(&std::fs::read_to_string(config).unwrap()).unwrap()["clamp"]
            .clone()
    };
    assert_eq!(clamped("00000040")["kind"], "forbid-induction");
    assert!(clamped("00000060").is_null() && clamped("00000200").is_null());
    let forbidden = rows(&run.join("measurements/heads.jsonl"));
    let at = |step: u64| forbidden.iter().filter(move |row| row["step"] == step);
    assert!(at(40).all(|row| row["prefix_matching"].as_f64() == Some(0.0)));
    assert!(at(60).any(|row| row["prefix_matching"].as_f64() > Some(0.0)));
    // Again: nothing is trained twice; another reproduction may not have the folder.
    succeed(&mut reproduce(&out));
    let mut smoke = induction();
    smoke.args(["reproduce", "--scale", "smoke", "--out"]).arg(&out);
    assert!(fail(&mut smoke, 2).contains("this folder is a study's"));
    // A study that the folder's runs do not belong to leaves it as it was.
    let kept = std::fs::read_to_string(out.join("study.toml")).unwrap();
    std::fs::write(&file, study.replace("lr = 0.01", "lr = 0.02")).unwrap();
    assert!(fail(&mut reproduce(&out), 2).contains("another spec"));
    assert_eq!(std::fs::read_to_string(out.join("study.toml")).unwrap(), kept);
    std::fs::write(&file, study.replace("of = \"late\"", "of = \"later\"")).unwrap();
    let message = fail(&mut reproduce(&out), 2);
    assert!(message.contains("names the variant \"later\", which is not there"), "{message}");
}
