//! Scans of trained models: their own page, and their section of a report.

use std::fs;

use crate::common::{exact, one, scan, two, write_all, write_scan};
use crate::{folder, read};
use induction_report::{build, build_scan};
use serde_json::{Value, json};

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
    // Every figure that is made stands in some section.
    let figures = fs::read_dir(dir.path().join("figures")).expect("figures");
    let names = figures.map(|file| file.expect("a file").file_name().into_string().expect("text"));
    let ids: Vec<String> =
        names.filter_map(|name| Some(name.strip_suffix(".svg")?.to_string())).collect();
    for id in &ids {
        assert!(page.contains(&format!("<figure id=\"{id}\"")), "{id}");
        let svg = read(&dir.path().join(format!("figures/{id}.svg")));
        assert!(
            svg.starts_with("<svg") && svg.ends_with("</svg>\n") && !svg.contains("NaN"),
            "{id}"
        );
        assert!(read(&dir.path().join(format!("figures/{id}.csv"))).lines().count() > 1, "{id}");
    }
    for id in ["R-T1", "R-A1", "R-roles", "R-causes", "R-cut", "R-paths", "R-F12", "R-C2"] {
        assert!(ids.iter().any(|found| found == id), "{id}");
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
    // Every head and each text's attention; what follows the sections is as it was.
    assert!(page.contains("id=\"scanned-data\"") && page.contains("id=\"scanned-0-2\""));
    assert!(!before.contains("id=\"scanned\"") && !before.contains("id=\"scanned-data\""));
    let section = page.split_once("<section id=\"scanned\"").expect("the section").1;
    let after = section.split_once("</section>").expect("its end").1;
    let after = after.split("id=\"figures\"").next().expect("the page before the data");
    assert!(after.len() > 10_000 && before.contains(after), "what follows the section");
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
    // All of one size, until a larger model comes.
    assert!(!report.contains("id=\"R-sizes\""));
    let mut larger = scan();
    larger["model"]["n_params"] = json!(50_000_000);
    write_scan(dir.path(), "larger", &larger);
    let report = read(&build(dir.path()).expect("sound scans").page);
    assert!(report.contains("id=\"R-sizes\""));
    let said = report.split_once("(50.0M): ").expect("the larger model").1.replace('\u{a0}', " ");
    assert!(
        said.starts_with(
            "4 % of the heads match prefixes, the best at 0.90, in the middle at 60 % of the depth."
        ),
        "{}",
        &said[..200]
    );

    let error =
        build_scan(&[dir.path().join("nowhere")], &out).expect_err("nothing there").to_string();
    assert!(
        error.contains("nowhere")
            && error.contains("scan.json is missing")
            && error.contains("induction scan")
    );
}
