//! What a report holds, and that the same runs give the same bytes.

use std::fs;

use crate::common::{
    Fabricated, SNAPSHOTS, all, everything, exact, families, fragments, one, scan, shuffled, two,
    write_all, write_scan,
};
use crate::{folder, read};
use induction_report::{RULES, Verdict, build, build_of, load_runs, revision, table};

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
    write_all(dir.path(), &everything());
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

#[test]
fn what_is_not_ablated_is_said_and_clamped_models_change_no_other_claim() {
    let claims = |runs: &[Fabricated]| {
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
        bare.into_iter().map(|run| Fabricated { ablated: false, ..run }).collect();
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
        "A5",
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

/// Of synthetic data the loss figures show what can be reached; of others nothing changes.
#[test]
fn the_optimum_is_a_line_where_it_is_known() {
    let dir = folder();
    write_all(dir.path(), &all());
    induction_report::build(dir.path()).expect("sound runs");
    let figure = |id: &str| read(&dir.path().join(format!("figures/{id}.csv")));
    let before = ["F6", "C2"].map(figure);
    assert!(before.iter().all(|csv| !csv.contains("optimum")));
    let run = dir.path().join("runs").join(two().folder);
    let losses = read(&run.join("measurements/loss_by_index.jsonl"));
    let last: serde_json::Value =
        serde_json::from_str(losses.lines().last().expect("snapshots")).expect("JSON");
    let mean = |of: &serde_json::Value| of.as_f64().expect("a number");
    let below: Vec<f64> = last["by_example"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|loss| mean(loss) - 0.5)
        .collect();
    let predictor = |name: &str, loss: f64| {
        serde_json::json!({
            "name": name, "loss": loss, "stderr": 0.01, "by_example": below,
            "loss_by_index": vec![loss; last["loss_by_index"].as_array().expect("a list").len()],
        })
    };
    let optimum = serde_json::json!({
        "source": "markov", "predictors": [predictor("optimum", 1.25), predictor("unigram", 1.5)],
    });
    let path = run.join("measurements/optimum.json");
    fs::write(&path, optimum.to_string()).expect("a folder that is there");
    induction_report::build(dir.path()).expect("sound runs");
    for (id, before) in ["F6", "C2"].into_iter().zip(before) {
        let csv = figure(id);
        for line in ["optimum", "unigram"] {
            let of_line = format!(",{line},");
            assert!(csv.lines().any(|row| row.contains(&of_line)), "{id}: {line}");
        }
        let others =
            csv.lines().filter(|row| !row.contains(",optimum,") && !row.contains(",unigram,"));
        assert_eq!(others.map(|row| format!("{row}\n")).collect::<String>(), before, "{id}");
    }
    let page = read(&dir.path().join("report.html"));
    assert!(page.contains(", 0.50 \u{b1} 0.000 above the optimum"), "how near the model comes");
    fs::write(&path, "{}").expect("a folder that is there");
    let error = induction_report::build(dir.path()).expect_err("a damaged file").to_string();
    assert!(error.contains("optimum.json") && error.contains("source"), "{error}");
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
