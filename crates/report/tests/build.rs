//! The report's files: shape, sameness, and what hostile or damaged input does to them.

mod common;

use std::fs;
use std::path::Path;

use common::{
    Fabricated, SNAPSHOTS, all, damage, exact, families, fragments, one, scan, shuffled, two,
    write, write_all, write_scan,
};
use induction_report::{
    RULES, Verdict, build, build_of, build_scan, load_runs, load_scan, revision, scan_page, table,
};
use serde_json::{Value, json};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("it was written")
}

#[track_caller]
fn expect_error(dir: &Path, parts: &[&str]) {
    let error = build(dir).expect_err("damaged input").to_string();
    for part in parts {
        assert!(error.contains(part), "expected {part:?} in: {error}");
    }
    assert!(!dir.join("report.html").exists() && !dir.join("claims.json").exists());
}

#[test]
fn the_same_runs_give_the_same_bytes() {
    let (a, b) = (folder(), folder());
    write_all(a.path(), &all());
    // Made in another order, elsewhere: neither may show.
    let mut reversed = all();
    reversed.reverse();
    write_all(b.path(), &reversed);
    let first = build(a.path()).expect("sound runs");
    let page = read(&first.page);
    let claims = read(&first.claims_file);
    let again = build(a.path()).expect("sound runs");
    let other = build(b.path()).expect("sound runs");
    for report in [&again, &other] {
        assert!(read(&report.page) == page, "the page differs");
        assert_eq!(read(&report.claims_file), claims);
    }
    let names: Vec<_> = fs::read_dir(a.path())
        .expect("it exists")
        .map(|entry| entry.expect("it exists").file_name())
        .collect();
    assert_eq!(
        names.len(),
        6,
        "nothing but runs, series, figures and three files is left behind: {names:?}"
    );
    let [pca, other] = [&a, &b].map(|dir| read(&dir.path().join("series/pca.jsonl")));
    assert!(pca.lines().count() as u64 == 4 * (SNAPSHOTS + 1) && pca == other);
    let [models, other] = [&a, &b].map(|dir| read(&dir.path().join("series/models.jsonl")));
    assert!(models.lines().count() == 6 && models == other);
    let [markdown, other] = [&a, &b].map(|dir| read(&dir.path().join("claims.md")));
    assert!(
        markdown.contains("| Q1 | Before")
            && markdown.contains("What would decide it")
            && markdown == other
    );
}

#[test]
fn runs_come_by_name_not_as_the_disk_lists_them() {
    let dir = folder();
    let mut runs = all();
    runs.reverse();
    write_all(dir.path(), &runs);
    let names: Vec<String> =
        load_runs(dir.path()).expect("sound runs").into_iter().map(|run| run.folder).collect();
    assert_eq!(
        names,
        ["a-1L", "b-2L", "c-1L-smeared", "d-2L-smeared", "e-2L-given", "f-2L-without"]
    );
}

#[test]
fn claims_json_has_the_documented_shape() {
    let dir = folder();
    write_all(dir.path(), &[two()]);
    let report = build(dir.path()).expect("sound runs");
    let json: serde_json::Value = serde_json::from_str(&read(&report.claims_file)).expect("JSON");
    let list = json.as_array().expect("a list");
    assert_eq!(list.len(), RULES.len());
    for claim in list {
        let mut keys: Vec<&str> =
            claim.as_object().expect("an object").keys().map(String::as_str).collect();
        // What is not reproduced names an experiment that would decide it.
        assert!(claim["decide"].is_string() || claim["verdict"] == "reproduced", "{claim}");
        // What has examples to draw from says how many of the draws agree.
        assert!(
            claim["probability"].as_f64().is_some_and(|share| share <= 1.0)
                || claim["verdict"] == "out-of-reach"
        );
        keys.retain(|key| *key != "decide" && *key != "probability");
        let mut expected = ["id", "title", "paper", "ours", "interval", "verdict", "why"];
        expected.sort_unstable();
        assert_eq!(keys, expected);
        assert!(
            ["reproduced", "partly", "not", "out-of-reach"]
                .contains(&claim["verdict"].as_str().expect("a text"))
        );
        assert!(claim["interval"].is_string() || claim["interval"].is_null());
        assert!(["id", "title", "paper", "ours", "why"].iter().all(|key| claim[key].is_string()));
    }
    assert_eq!(list[6]["verdict"], "out-of-reach");
}

/// Claims and figures have names of their own, some the same: a link must lead to the one it means.
#[test]
fn no_two_things_of_a_page_have_one_name_and_every_link_leads_somewhere() {
    let dir = folder();
    write_all(dir.path(), &common::everything());
    let page = read(&build(dir.path()).expect("sound runs").page);
    let (mut names, mut links) = (Vec::new(), Vec::new());
    // Our own script and Plotly's write names of their own.
    for part in page.split("<script").map(|part| part.rsplit("</script>").next().unwrap_or(part)) {
        let after = |start: &str| {
            let each = part.split(start).skip(1).filter_map(|rest| rest.split('"').next());
            each.map(str::to_string).collect::<Vec<_>>()
        };
        names.extend(after(" id=\""));
        links.extend(after("href=\"#"));
    }
    names.sort();
    let twice: Vec<_> = names.windows(2).filter(|two| two[0] == two[1]).collect();
    assert!(names.len() > 100 && twice.is_empty(), "{twice:?}");
    let lost: Vec<_> = links.iter().filter(|link| names.binary_search(link).is_err()).collect();
    assert!(links.len() > 50 && lost.is_empty(), "{lost:?}");
}

#[test]
fn the_page_loads_nothing_and_links_to_its_tables() {
    let dir = folder();
    write_all(dir.path(), &exact(all()));
    let page = read(&build(dir.path()).expect("sound runs").page);
    assert!(page.contains("default-src 'none'"));
    // Outside the scripts there is no way to load anything: no address with a scheme, no source.
    let markup = page
        .split("<script")
        .next()
        .expect("the page before the scripts")
        .split("<footer>")
        .next()
        .expect("before the licence");
    for forbidden in ["http:", "https:", "src=", "url(", "@import", "srcset"] {
        assert!(!markup.contains(forbidden), "{forbidden}");
    }
    for link in markup.split("href=\"").skip(1).map(|rest| rest.split('"').next().expect("a quote"))
    {
        match link.strip_prefix('#') {
            Some(id) => assert!(markup.contains(&format!("id=\"{id}\"")), "{link}"),
            None => assert!(link == "data:," || dir.path().join(link).is_file(), "{link}"),
        }
    }
}

#[test]
fn the_rules_that_judged_are_named_beside_those_that_runs_were_planned_under() {
    let dir = folder();
    write_all(dir.path(), &exact(vec![two(), one()]));
    let now = revision();
    for (manifest, words) in [
        (
            None,
            format!(
                "revision {now}; which were in force when these runs were planned is not on record"
            ),
        ),
        (
            Some(format!("rules = \"{now}\"\n")),
            format!("revision {now}, and were when these runs were planned"),
        ),
        (
            Some("rules = \"<b>\u{202e}\"\n".to_string()),
            "so rules were changed after that".to_string(),
        ),
    ] {
        if let Some(text) = manifest {
            fs::write(dir.path().join("manifest.toml"), text).expect("writable");
        }
        let report = build_of(dir.path(), &["b-2L".to_string()]).expect("a sound run");
        let markdown = read(&dir.path().join("claims.md"));
        for text in [read(&report.page), markdown] {
            assert!(text.contains(&words) && !text.contains('\u{202e}'), "{words}");
        }
        // Of some of the runs, the others are not there.
        let q5 = report.claims.iter().find(|claim| claim.id == "Q5").expect("a claim");
        assert_eq!(q5.verdict, Verdict::OutOfReach);
    }
    let error =
        build_of(dir.path(), &["nowhere".to_string()]).expect_err("no such run").to_string();
    assert!(error.contains("nowhere"), "{error}");
}

#[cfg(unix)]
#[test]
fn hostile_names_and_specs_are_inert() {
    let dir = folder();
    let name = "<script>alert(1)<!-- \"'&\u{1b}[31m\u{202e}#?%";
    write_all(dir.path(), &exact(vec![Fabricated { folder: name.to_string(), ..two() }, one()]));
    let spec = dir.path().join("runs").join(name).join("spec.toml");
    let hostile = "\n# </script><script>alert(2)</script><img src=x onerror=alert(3)> \u{202e}\n";
    fs::write(&spec, read(&spec).replace("[data]", &format!("{hostile}[data]"))).expect("writable");
    let meta = dir.path().join("runs").join(name).join("measurements/meta.json");
    let engine = r#""engine":"</script><b>\u001b[1m\u202e""#;
    fs::write(&meta, read(&meta).replace("\"engine\":\"cpu\"", engine)).expect("writable");

    let report = build(dir.path()).expect("hostile, but sound");
    let page = read(&report.page);
    let own = page.matches("<script").count();
    assert_eq!(
        own - plotly_mentions(),
        7,
        "three sorts of data, two packed models and our two scripts"
    );
    assert!(!page.contains("<img src=x") && !page.contains("<script>alert"));
    assert!(!page.contains('\u{1b}') && !page.contains('\u{202e}'));
    assert!(page.contains("&lt;script&gt;alert(1)") && page.contains("\\u{202e}"));
    assert!(page.contains(
        "runs/%3Cscript%3Ealert%281%29%3C%21--%20%22%27%26%1B%5B31m%E2%80%AE%23%3F%25/measurements/icl.jsonl"
    ));

    // In the figures' JSON nothing can end the element.
    let data = page
        .split("id=\"figures\">")
        .nth(1)
        .expect("the data")
        .split("</script>")
        .next()
        .expect("its end");
    assert!(!data.contains('<'));
    let _: serde_json::Value = serde_json::from_str(data).expect("JSON");

    let claims_json = read(&report.claims_file);
    assert!(!claims_json.contains('\u{1b}') && !claims_json.contains('\u{202e}'));
    let text = table(&report.claims, 100, false);
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
}

fn plotly_mentions() -> usize {
    include_str!("../assets/plotly-cartesian.min.js").matches("<script").count()
}

#[test]
fn a_damaged_line_is_named() {
    let text: [(&str, usize, &str, &[&str]); 3] = [
        ("metrics.jsonl", 3, r#"{"step": 3, "tok"#, &["metrics.jsonl, line 3", "JSON object"]),
        (
            "metrics.jsonl",
            7,
            r#"{"step": 7, "tokens": 70000, "loss": NaN}"#,
            &["metrics.jsonl, line 7", "diverged"],
        ),
        ("measurements/icl.jsonl", 5, "", &["icl.jsonl, line 5", "JSON object"]),
    ];
    for (file, line, text, parts) in text {
        let dir = folder();
        let run = write(dir.path(), &two());
        damage(&run.join(file), line, text.as_bytes());
        expect_error(dir.path(), parts);
    }
    let fields: [(&str, usize, Value, &[&str]); 8] = [
        ("metrics.jsonl", 9, json!({"step": 2}), &["line 9", "after step 8", "increase"]),
        (
            "measurements/icl.jsonl",
            5,
            json!({"icl_score": null}),
            &["icl.jsonl, line 5", "`icl_score` is null", "finite"],
        ),
        (
            "measurements/icl.jsonl",
            5,
            json!({"stderr": -1}),
            &["icl.jsonl, line 5", "`stderr` is -1", "from 0"],
        ),
        (
            "measurements/icl.jsonl",
            5,
            json!({"by_example": [1, 2]}),
            &["icl.jsonl, line 5", "`by_example` has 2 entries, expected 16"],
        ),
        (
            "measurements/copies.jsonl",
            2,
            json!({"others_by_example": [1, 2]}),
            &["copies.jsonl, line 2", "`others_by_example` has 2 entries, expected 16"],
        ),
        (
            "measurements/loss_by_index.jsonl",
            2,
            json!({"loss_by_index": [1, 2]}),
            &["loss_by_index.jsonl, line 2", "2 entries, expected 512"],
        ),
        (
            "measurements/heads.jsonl",
            8,
            json!({"layer": 9}),
            &["heads.jsonl, line 8", "head 9.3, expected head 1.3", "2 layers of 4 heads"],
        ),
        (
            "measurements/heads.jsonl",
            4,
            json!({"prefix_matching": 1.5}),
            &["heads.jsonl, line 4", "`prefix_matching` is 1.5", "from 0 to 1"],
        ),
    ];
    for (file, line, change, parts) in fields {
        let dir = folder();
        let path = write(dir.path(), &two()).join(file);
        let text = read(&path);
        let mut row: Value =
            serde_json::from_str(text.lines().nth(line - 1).expect("a line")).expect("JSON");
        let change = change.as_object().expect("an object").clone();
        row.as_object_mut().expect("an object").extend(change);
        damage(&path, line, row.to_string().as_bytes());
        expect_error(dir.path(), parts);
    }
}

#[test]
fn other_bytes_than_text_are_named() {
    let dir = folder();
    let run = write(dir.path(), &two());
    damage(&run.join("measurements/icl.jsonl"), 4, b"{\"step\": \xff}");
    expect_error(dir.path(), &["icl.jsonl, line 4", "UTF-8"]);
}

#[test]
fn a_missing_head_is_named() {
    for (gone, line, what) in [
        (3, "line 3", "head 0.3, expected head 0.2"),
        (8, "line 8", "step 0 ends with 7 lines, expected 8"),
        (328, "line 327", "7 lines, expected 8"),
    ] {
        let dir = folder();
        let run = write(dir.path(), &two());
        let path = run.join("measurements/heads.jsonl");
        let text = read(&path);
        let kept: Vec<&str> =
            text.lines().enumerate().filter(|(k, _)| k + 1 != gone).map(|(_, line)| line).collect();
        fs::write(&path, kept.join("\n")).expect("writable");
        expect_error(dir.path(), &["heads.jsonl", line, what]);
    }
    let dir = folder();
    let run = write(dir.path(), &two());
    let path = run.join("measurements/heads.jsonl");
    let first = read(&path).lines().next().expect("a line").to_string();
    damage(&path, 2, first.as_bytes());
    expect_error(dir.path(), &["heads.jsonl, line 2", "step 0 at [0, 0, 0, 0, 0] is there twice"]);
}

#[test]
fn a_damaged_ablation_is_named() {
    let row = |change: &dyn Fn(&str) -> String, table: &str, line: usize, parts: &[&str]| {
        let dir = folder();
        let run = write(dir.path(), &two());
        let path = run.join("measurements").join(table);
        let text = read(&path).lines().nth(line - 1).expect("a line").to_string();
        damage(&path, line, change(&text).as_bytes());
        expect_error(dir.path(), parts);
    };
    let sweep = "ablations.jsonl";
    let swap = |from: &'static str, to: &'static str| {
        move |text: &str| {
            assert!(text.contains(from), "{from} in {text}");
            text.replacen(from, to, 1)
        }
    };
    row(
        &swap("\"full\"", "\"fuller\""),
        sweep,
        1,
        &[
            "ablations.jsonl, line 1",
            "`downstream`: unknown variant `fuller`",
            "`pattern-preserving`",
        ],
    );
    row(&swap("\"full\"", "\"pattern-preserving\""), sweep, 1, &["line 2", "is there twice"]);
    row(&swap("\"head\":3", "\"head\":9"), sweep, 16, &["line 16", "head 1.9, expected head 1.3"]);
    row(
        &swap("same_token_change_by_example\":[", "same_token_change_by_example\":[1.0,"),
        sweep,
        3,
        &["line 3", "9 entries, expected 8"],
    );
    row(
        &swap("undone_by_example\":[", "undone_by_example\":[],\"x\":["),
        sweep,
        3,
        &["line 3", "0 entries, expected 8"],
    );
    row(&swap("\"icl_change\":", "\"icl_change\":NaN,\"x\":"), sweep, 2, &["line 2", "NaN"]);
    row(
        &swap("\"same_token_change\":", "\"x\":"),
        sweep,
        2,
        &["line 2", "`same_token_change` is missing"],
    );
    row(
        &swap("\"step\":0", "\"step\":5"),
        sweep,
        16,
        &["line 16", "step 5 (0 tokens) after step 0", "expected both to increase"],
    );
    row(
        &swap("\"before_step\":", "\"x\":"),
        "ablations.json",
        1,
        &["ablations.json, line 1", "`change.before_step` is missing"],
    );
    row(
        &swap("\"squares\":[", "\"squares\":[null,"),
        "ablations.json",
        1,
        &["ablations.json", "`change.squares[0]` is null"],
    );
    let knockouts = "knockouts.jsonl";
    row(
        &swap("\"kind\":\"heads\"", "\"kind\":\"head\""),
        knockouts,
        2,
        &["line 2", "unknown variant `head`", "`substitute`"],
    );
    row(
        &swap("\"layer\":1", "\"layer\":7"),
        knockouts,
        2,
        &["line 2", "head 7.1, expected one of a model of 2 layers of 4 heads"],
    );
    row(
        &swap("\"same_token_by_example\"", "\"icl\""),
        knockouts,
        1,
        &["line 1", "`same_token_by_example` is missing"],
    );
}

#[test]
fn what_is_not_ablated_is_said_and_clamped_models_change_no_other_claim() {
    let claims = |runs: &[common::Fabricated]| {
        let dir = folder();
        write_all(dir.path(), &exact(runs.to_vec()));
        let report = build(dir.path()).expect("sound runs");
        let page = read(&report.page);
        (
            serde_json::to_value(&report.claims)
                .expect("claims")
                .as_array()
                .expect("a list")
                .clone(),
            page,
        )
    };
    let bare: Vec<_> = all().into_iter().filter(|run| run.clamp.is_none()).collect();
    let mut bare: Vec<_> =
        bare.into_iter().map(|run| common::Fabricated { ablated: false, ..run }).collect();
    let (without, page) = claims(&bare);
    for id in ["Q10", "Q11", "R1", "S1", "A1", "A3", "A4", "K1"] {
        let claim = without.iter().find(|claim| claim["id"] == id).expect("a claim");
        assert_eq!(claim["verdict"], "out-of-reach", "{claim}");
        assert!(claim["why"].as_str().expect("a text").contains("induction ablate RUN"), "{claim}");
    }
    for id in ["P1", "P2"] {
        let claim = without.iter().find(|claim| claim["id"] == id).expect("a claim");
        assert!(claim["why"].as_str().expect("a text").contains("reproduce --clamp"), "{claim}");
    }
    assert!(
        page.contains("The 2-layer vanilla run is not ablated.") && !page.contains("id=\"clamps\"")
    );
    bare.iter_mut().for_each(|run| run.ablated = true);
    bare.extend(all().into_iter().filter(|run| run.clamp.is_some()));
    let (with, page) = claims(&bare);
    for (with, without) in with.iter().zip(&without) {
        let new = ["Q10", "Q11", "R1", "S1", "A1", "A3", "A4", "K1", "P1", "P2"]
            .contains(&with["id"].as_str().expect("a text"));
        assert!(new || with == without, "{with} was {without}");
    }
    assert!(page.contains("id=\"clamps\"") && page.contains("id=\"F11\""));
}

#[test]
fn missing_and_empty_files_are_named() {
    for (file, help) in [
        ("spec.toml", "not a run folder"),
        ("metrics.jsonl", "train it again"),
        ("measurements/icl.jsonl", "induction measure"),
        ("measurements/loss_by_index.jsonl", "induction measure"),
        ("measurements/copies.jsonl", "induction measure"),
        ("measurements/random_tokens.jsonl", "induction measure"),
        ("measurements/summary.json", "induction measure"),
        ("measurements/heads.jsonl", "induction measure"),
        ("measurements/meta.json", "induction measure"),
    ] {
        let dir = folder();
        let run = write(dir.path(), &two());
        fs::remove_file(run.join(file)).expect("it was there");
        let name = Path::new(file).file_name().expect("a name").to_str().expect("a text");
        expect_error(dir.path(), &[name, "missing", help]);
    }
    let dir = folder();
    let run = write(dir.path(), &two());
    fs::write(run.join("measurements/icl.jsonl"), "").expect("writable");
    expect_error(dir.path(), &["icl.jsonl, line 1", "empty"]);
}

#[test]
fn a_damaged_spec_names_its_field() {
    for (from, to, parts) in [
        ("seed = 0", "seed = -1", &["spec.toml", "seed = -1", "a whole number from 0"][..]),
        ("seed = 0\n", "", &["missing field `seed`"]),
        ("n_layers = 2", "n_layers = \"two\"", &["n_layers = \"two\"", "a whole number from 0"]),
        ("smeared_keys = false", "smeared_keys = 0", &["smeared_keys = 0", "a boolean"]),
        ("[train]", "[train", &["line 21"]),
        ("[model]", "control = \"shuffle\"\n[model]", &["`shuffle`", "`shuffled` or `fragments`"]),
        ("decay_share = 0.1", "decay_share = 1.0", &["train.decay_share = 1", "from 0 to below 1"]),
    ] {
        let dir = folder();
        let run = write(dir.path(), &two());
        let spec = run.join("spec.toml");
        fs::write(&spec, read(&spec).replace(from, to)).expect("writable");
        expect_error(dir.path(), parts);
    }
}

#[test]
fn no_run_at_all() {
    let dir = folder();
    expect_error(dir.path(), &["no run", "runs/NAME"]);
    fs::create_dir_all(dir.path().join("runs/.tmp-half")).expect("writable");
    fs::write(dir.path().join("runs/notes.txt"), "").expect("writable");
    expect_error(dir.path(), &["no run"]);
}

#[test]
fn the_terminal_table_keeps_its_width() {
    let dir = folder();
    write_all(dir.path(), &exact(all()));
    let claims = build(dir.path()).expect("sound runs").claims;
    for width in [60, 80, 100, 160] {
        let text = table(&claims, width, false);
        let widest = text.lines().map(|line| line.chars().count()).max().expect("lines");
        assert!(widest <= usize::from(width), "{widest} at {width}:\n{text}");
        assert!(!text.contains('\u{1b}'));
        for (verdict, said) in [
            (Verdict::Reproduced, "● reproduced"),
            (Verdict::Partly, "◐ partly"),
            (Verdict::Not, "○ not"),
        ] {
            let expected = claims.iter().filter(|claim| claim.verdict == verdict).count();
            assert_eq!(text.matches(said).count(), expected, "{said}: {text}");
        }
    }
    assert!(table(&claims, 100, true).contains("\u{1b}[1;34m● reproduced\u{1b}[0m"));
}

#[test]
fn a_run_that_is_no_part_still_makes_a_page() {
    let dir = folder();
    let twin = Fabricated { folder: "twin".to_string(), d_mlp: 512, ..two() };
    write_all(dir.path(), &exact(vec![Fabricated { d_mlp: 512, ..two() }, twin]));
    let page = read(&build(dir.path()).expect("sound runs").page);
    assert!(page.contains("2 layers, MLPs") && page.contains("not part of any claim: a duplicate"));
}

#[test]
fn damaged_maps_and_texts_are_named() {
    let cases: [(&str, &[u8], &[&str]); 6] = [
        (
            "text.json",
            b"{\"name\": 1}",
            &[
                "text.json, line 1",
                "`name` is integer `1`, expected a text",
                "explore the run again",
            ],
        ),
        (
            "text.json",
            b"{\"name\": \"a\", \"ids\": [1], \"tokens\": [\"b\"]}",
            &["text.jsonl, line 1", "10 losses for the 1 tokens"],
        ),
        (
            "maps/step-00000250.safetensors",
            b"\0",
            &["step-00000250.safetensors", "explore the run again"],
        ),
        (
            "prompts.json",
            b"[{\"behaviour\": \"pattern matching\"}]",
            &["prompts.json", "`[0].ids` is missing"],
        ),
        ("prompts.json", b"[", &["prompts.json, line 1", "expected a JSON"]),
        (
            "prompts.jsonl",
            b"{\"behaviour\": \"a\", \"layer\": 7}",
            &["prompts.jsonl, line 1", "`step` is missing"],
        ),
    ];
    for (file, bytes, parts) in cases {
        let dir = folder();
        let run = write(dir.path(), &two());
        fs::write(run.join("measurements").join(file), bytes).expect("writable");
        expect_error(dir.path(), parts);
    }
    // Maps of another model than the spec's.
    let dir = folder();
    let run = write(dir.path(), &two());
    let other = write(dir.path(), &one());
    let maps = |run: &Path| run.join("measurements/maps/step-00000500.safetensors");
    fs::copy(maps(&other), maps(&run)).expect("both are there");
    expect_error(
        dir.path(),
        &["step-00000500.safetensors", "shape [1, 4, 10, 10]", "[2, 4, 10, 10]"],
    );
}

#[test]
fn tokens_of_a_text_are_inert() {
    let dir = folder();
    write_all(dir.path(), &exact(vec![two(), one()]));
    let report = build(dir.path()).expect("sound runs");
    let page = read(&report.page);
    // Escapes, right-to-left marks and tags of the text and its name are shown, not obeyed.
    assert!(!page.contains('\u{1b}') && !page.contains('\u{202e}') && !page.contains("<i>mine"));
    assert!(page.contains("a text of &lt;i&gt;mine&lt;/i&gt;") && page.contains("\\u{202e}abc"));
    let svg = read(&dir.path().join("figures/F8.svg"));
    assert!(
        svg.contains("&lt;/script&gt;") && !svg.contains("</script>") && !svg.contains('\u{1b}')
    );
    let csv = read(&dir.path().join("figures/F8.csv"));
    assert!(csv.lines().next() == Some("token,text,value") && csv.contains("\n3, <b>,"));
}

#[test]
fn every_figure_is_a_picture_and_a_table() {
    let dir = folder();
    let runs = [all(), families(), vec![shuffled(), fragments()]].concat();
    write_all(dir.path(), &runs);
    let page = read(&build(dir.path()).expect("sound runs").page);
    let wanted = [
        "F3",
        "F4",
        "F5",
        "F6",
        "F7",
        "F8",
        "F9",
        "F10",
        "F11",
        "T1",
        "F14",
        "C1",
        "C2",
        "C3",
        "C4",
        "A1",
        "A2",
        "A3",
        "A4",
        "full-ablations",
        "before-after",
        "clamps",
        "copies",
        "progress",
        "controls",
    ];
    for id in wanted {
        assert!(page.contains(&format!("<figure id=\"{id}\"")), "{id}");
        let svg = read(&dir.path().join(format!("figures/{id}.svg")));
        assert!(
            svg.starts_with("<svg") && svg.ends_with("</svg>\n") && !svg.contains("NaN"),
            "{id}"
        );
        let csv = read(&dir.path().join(format!("figures/{id}.csv")));
        let columns = csv.lines().next().expect("a head").split(',').count();
        assert!(csv.lines().count() > 1 && columns > 2, "{id}");
    }
}

#[test]
fn several_folders_stand_side_by_side() {
    let (a, b, out) = (folder(), folder(), folder());
    write_all(a.path(), &all());
    write_all(b.path(), &[Fabricated { before: 0.3, after: 0.7, ..two() }, one()]);
    write_scan(a.path(), "tiny", &scan());
    let dirs = [a.path().to_path_buf(), b.path().to_path_buf()];
    let out = out.path().join("new");
    let page = induction_report::compare(&dirs, &out).expect("sound runs");
    let first = read(&page);
    let [left, right] =
        dirs.map(|dir| dir.file_name().expect("a name").to_string_lossy().into_owned());
    assert!(
        first.contains(&format!("{left}: Attention-only"))
            && first.contains(&format!("{right}: Attention-only"))
    );
    // Q1 comes out otherwise, Q5 does not.
    assert!(
        first.contains("<tr id=\"claim-Q1\" class=\"differs\">")
            && first.contains("<tr id=\"claim-Q5\">"),
        "the marks"
    );
    assert!(
        first.contains("<tr id=\"claim-M6\" class=\"differs\">") && first.contains("id=\"R-A1-0\""),
        "the scan of one side"
    );
    let csv = read(&out.join("figures/F3.csv"));
    assert!(
        [left, right].iter().all(|side| csv.contains(&format!("{side}: Score of vanilla models"))),
        "{csv}"
    );
    induction_report::compare(&[a.path().to_path_buf(), b.path().to_path_buf()], &out)
        .expect("sound runs");
    assert!(read(&page) == first);
}

#[test]
fn real_models_are_a_section_where_there_are_scans() {
    let dir = folder();
    write_all(dir.path(), &exact(vec![two(), one()]));
    let before = read(&build(dir.path()).expect("sound runs").page);
    assert!(
        !before.contains("id=\"real-models\"") && !dir.path().join("figures/R-A1.svg").exists()
    );
    // What else lies there is nobody's business.
    fs::create_dir_all(dir.path().join("models/weights")).expect("writable");
    assert!(read(&build(dir.path()).expect("sound runs").page) == before);

    write_scan(dir.path(), "tiny", &scan());
    let report = build(dir.path()).expect("a sound scan");
    let page = read(&report.page);
    for id in ["R-T1", "R-A1", "R-A2", "R-repeats", "R-removed", "R-T2", "R-F12", "R-C2"] {
        assert!(page.contains(&format!("<figure id=\"{id}\"")), "{id}");
        let svg = read(&dir.path().join(format!("figures/{id}.svg")));
        assert!(
            svg.starts_with("<svg") && svg.ends_with("</svg>\n") && !svg.contains("NaN"),
            "{id}"
        );
        assert!(read(&dir.path().join(format!("figures/{id}.csv"))).lines().count() > 1, "{id}");
    }
    assert!(
        page.contains("href=\"models/tiny/scan.json\"") && page.contains("href=\"#real-models\"")
    );
    assert!(
        page.contains("<a href=\"#R-removed\">\u{201c}removed\u{201d}</a>"),
        "where M6 is seen"
    );
    // One panel of the head that matches best, which is the best on the prompt, too.
    assert_eq!(page.matches("id=\"R-F12-").count(), 2, "the title and one panel");
    assert!(read(&build(dir.path()).expect("a sound scan").page) == page);
    // What follows the section is as it was.
    let section =
        page.split_once("<section aria-labelledby=\"real-models\">").expect("the section").1;
    let after = section.split_once("</section>").expect("its end").1;
    let after = after.split("id=\"figures\"").next().expect("the page before the data");
    assert!(after.len() > 10_000 && before.contains(after), "what follows the section");
}

#[test]
fn a_scan_is_inert() {
    let dir = folder();
    let models = write_scan(dir.path(), "tiny", &scan());
    let pages = [scan_page(&load_scan(&models).expect("a sound scan")), {
        write_all(dir.path(), &exact(vec![two(), one()]));
        read(&build(dir.path()).expect("a sound scan").page)
    }];
    for page in &pages {
        assert!(!page.contains('\u{1b}') && !page.contains('\u{202e}'));
        assert!(!page.contains("<b>tiny") && !page.contains("<i>a text"));
        assert!(page.contains("&lt;b&gt;tiny&lt;/b&gt; \\u{1b}[1m\\u{202e}.gguf"));
        let data = page
            .split("id=\"figures\">")
            .nth(1)
            .expect("the data")
            .split("</script>")
            .next()
            .expect("its end");
        assert!(!data.contains('<') && data.contains("\\u003c/script>"));
        let figures: Value = serde_json::from_str(data).expect("JSON");
        let map = figures
            .as_array()
            .expect("a list")
            .iter()
            .find(|figure| figure["id"] == "R-F12")
            .expect("a map");
        assert_eq!(map["panels"][0]["heat"]["labels"][2], " <b>");
        assert_eq!(map["panels"][0]["heat"]["z"][1][1], 0.498);
    }
    for file in
        ["claims.md", "claims.json", "figures/R-F12.svg", "figures/R-A1.svg", "figures/R-T1.csv"]
    {
        let text = read(&dir.path().join(file));
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{file}");
        assert!(!file.ends_with("svg") || !text.contains("<b>"), "{file}");
    }
}

#[test]
fn a_page_of_scans_stands_alone() {
    let dir = folder();
    let early = {
        let mut scan = scan();
        scan["repeated"]["second"] = json!(10.9);
        scan["model"]["name"] = json!("step 1");
        scan["icl"] = Value::Null;
        scan
    };
    write_scan(dir.path(), "series/000", &early);
    write_scan(dir.path(), "series/001", &scan());
    let single = write_scan(dir.path(), "tiny", &scan());
    let out = dir.path().join("scan.html");
    build_scan(&[dir.path().join("models/series")], &out).expect("sound scans");
    let page = read(&out);
    assert!(
        page.contains("id=\"R-series\"")
            && page.contains("id=\"claim-M4\"")
            && !page.contains("id=\"claim-Q1\"")
    );
    assert!(page.contains("from step 1: prefix matching 0.90, second copy 10.90 nats to "));
    assert!(
        !page.contains("figures/")
            && !page.contains("models/")
            && page.contains("default-src 'none'")
    );
    let markup = page.split("<script").next().expect("the page before the scripts");
    for link in
        markup.split("href=\"#").skip(1).map(|rest| rest.split('"').next().expect("a quote"))
    {
        assert!(markup.contains(&format!("id=\"{link}\"")), "{link}");
    }
    build_scan(&[dir.path().join("models/series")], &out).expect("sound scans");
    assert!(read(&out) == page);
    build_scan(std::slice::from_ref(&single), &out).expect("a sound scan");
    assert!(!read(&out).contains("id=\"R-series\""));
    // The same series in a report.
    write_all(dir.path(), &exact(vec![two(), one()]));
    let report = read(&build(dir.path()).expect("sound scans").page);
    assert!(
        report.contains("id=\"R-series\"")
            && report.contains("href=\"models/series/001/scan.json\"")
    );

    let error =
        build_scan(&[dir.path().join("nowhere")], &out).expect_err("nothing there").to_string();
    assert!(
        error.contains("nowhere")
            && error.contains("scan.json is missing")
            && error.contains("induction scan")
    );
}

#[test]
fn a_damaged_scan_is_named() {
    let refused = |change: &dyn Fn(&mut Value), parts: &[&str]| {
        let dir = folder();
        write_all(dir.path(), &[one()]);
        let mut scan = scan();
        change(&mut scan);
        write_scan(dir.path(), "tiny", &scan);
        expect_error(dir.path(), parts);
    };
    refused(
        &|scan| scan["version"] = json!(9),
        &["tiny", "scan.json: `version` is 9, expected 2", "scan the model again"],
    );
    refused(&|scan| scan["more"] = json!(1), &["unknown field `more`"]);
    refused(
        &|scan| scan["repeated"]["more"] = json!(1),
        &["`repeated.more`: unknown field `more`"],
    );
    refused(
        &|scan| scan["model"]["n_layers"] = json!(0),
        &["`model.n_layers` is 0, expected a whole number from 1 to"],
    );
    refused(
        &|scan| scan["model"]["name"] = json!(5),
        &["`model.name` is integer `5`, expected a text"],
    );
    refused(
        &|scan| scan["heads"][3]["prefix_matching"] = json!(1.5),
        &["`heads[3].prefix_matching` is 1.5"],
    );
    refused(
        &|scan| scan["heads"][3]["some_other_score"] = json!("a"),
        &["`heads[3]`: `some_other_score` is \"a\", expected a number or null"],
    );
    refused(&|scan| scan["heads"][3]["role"] = json!("king"), &["`heads[3]`: `role` is \"king\""]);
    refused(
        &|scan| scan["heads"][3]["head"] = json!(2),
        &["`heads[3]` is head 0.2, which is there twice"],
    );
    let pop = |scan: &mut Value| drop(scan["heads"].as_array_mut().expect("a list").pop());
    refused(&pop, &["`heads` has 79 entries, expected 80"]);
    let short = |scan: &mut Value| {
        drop(scan["repeated"]["by_position"].as_array_mut().expect("a list").pop());
    };
    refused(&short, &["`repeated.by_position` has 99 entries, expected 100"]);
    refused(&|scan| scan["icl"]["score"] = Value::Null, &["`icl.score` is null"]);
    refused(
        &|scan| scan["ablation"]["sets"][0]["kind"] = json!("none"),
        &["`ablation.sets[0].kind`", "matched"],
    );
    refused(
        &|scan| scan["ablation"]["sets"][1]["kind"] = json!("induction"),
        &["2 sets of kind induction, expected 1"],
    );
    refused(
        &|scan| scan["ablation"]["sets"][0]["heads"] = json!([[99, 0]]),
        &["`ablation.sets[0].heads` is of head 99.0 of a model of 20 layers"],
    );
    refused(
        &|scan| scan["behaviours"][5]["share"] = json!(-0.1),
        &["behaviours[5]: `share` is -0.1"],
    );
    refused(
        &|scan| scan["behaviours"][5]["behaviour"] = json!("x"),
        &["behaviours[5]: `behaviour` is \"x\""],
    );
    refused(
        &|scan| scan["shown"][0]["heads"][0]["attention"][1] = json!([255]),
        &["`shown[0].heads`: the attention of head 11.2 is not 10 rows of 1, 2, .. entries"],
    );
    refused(
        &|scan| scan["shown"][0]["heads"][0]["attention"][0] = json!([256]),
        &[
            "`shown[0].heads[0].attention[0][0]` is integer `256`, expected a whole number from 0 to 255",
        ],
    );
    refused(
        &|scan| scan["shown"][0]["tokens"][0] = json!(0),
        &["`shown[0].tokens[0]` is integer `0`, expected a text"],
    );

    let dir = folder();
    write_all(dir.path(), &[one()]);
    let scan = write_scan(dir.path(), "tiny", &scan()).join("scan.json");
    fs::write(&scan, "{\n\"version\": NaN").expect("writable");
    expect_error(dir.path(), &["scan.json: line 2: expected a JSON object"]);
    fs::write(&scan, "1").expect("writable");
    expect_error(dir.path(), &["scan.json: line 1: expected a JSON object"]);
    fs::write(&scan, b"{\xff").expect("writable");
    expect_error(dir.path(), &["scan.json", "UTF-8"]);
}
