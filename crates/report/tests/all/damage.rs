//! What damaged and hostile input does to a report: it is named, or inert.

use std::fs;
use std::path::Path;

use crate::common::{
    Fabricated, damage, exact, one, scan, shown, two, write, write_all, write_scan,
};
use crate::{folder, read};
use induction_report::{build, load_scan, scan_page, table};
use serde_json::{Value, json};

fn plotly_mentions() -> usize {
    include_str!("../../assets/plotly-cartesian.min.js").matches("<script").count()
}

#[track_caller]
fn expect_error(dir: &Path, parts: &[&str]) {
    let error = build(dir).expect_err("damaged input").to_string();
    for part in parts {
        assert!(error.contains(part), "expected {part:?} in: {error}");
    }
    assert!(!dir.join("report.html").exists() && !dir.join("claims.json").exists());
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

/// In a comparison a folder's name is content, an attribute, and a figure's title.
#[cfg(unix)]
#[test]
fn a_hostile_folder_is_inert_beside_another() {
    let (dir, out) = (folder(), folder());
    let dirs = ["plain", "\" onclick=\"<b>&'\u{202e}"].map(|name| dir.path().join(name));
    dirs.iter().for_each(|dir| write_all(dir, &exact(vec![two(), one()])));
    let page = read(&induction_report::compare(&dirs, out.path()).expect("hostile, but sound"));
    let name = "&quot; onclick=&quot;&lt;b&gt;&amp;'\\u{202e}";
    for part in [
        format!("<th scope=\"col\"><bdi>{name}</bdi></th>"),
        format!("<td data-label=\"{name}\">"),
        format!("aria-label=\"{name}: "),
    ] {
        assert!(page.contains(&part), "{part}");
    }
    assert!(!page.contains("\" onclick=\"") && !page.contains("<b>&"));
    assert!(!page.contains('\u{202e}'));
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
        ("decay_share = 0.1", "decay_share = 1.1", &["train.decay_share = 1.1", "from 0 to 1"]),
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
        &["tiny", "scan.json: `version` is 9, expected 7", "scan the model again"],
    );
    refused(
        &|scan| scan["how"]["start"] = json!(60_000),
        &["`how.start` is 60000 of a vocabulary of 60000 tokens"],
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
        &|scan| scan["causes"][0]["cause"] = json!("none"),
        &["`causes[0].cause`", "concept-copying"],
    );
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
        &|scan| scan["shown"][1] = shown("literal copying", 79),
        &["`shown[1].attention` has 4345 bytes, expected 4400, those of 80 heads"],
    );
    refused(
        &|scan| scan["shown"][1] = shown("literal copying", 81),
        &["`shown[1].attention` is no zlib stream of 4400 bytes"],
    );
    refused(
        &|scan| scan["shown"][0]["attention"] = json!("*"),
        &["`shown[0].attention` is no base64"],
    );
    refused(
        &|scan| scan["shown"][0]["attention"] = json!("AAAA"),
        &["`shown[0].attention` is no zlib stream of 4400 bytes"],
    );
    refused(&|scan| scan["shown"][0]["tokens"] = json!([]), &["`shown[0].tokens` is 0, expected"]);
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
