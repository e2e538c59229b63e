//! Whether a report is whole: its page, its figures, the data inside.

use std::{fs, path::Path};

/// What a page may weigh.
const LARGEST: usize = 12_000_000;

/// The figures of a reproduction without clamps, families on other text, or trained models: what
/// `smoke` has.
const FIGURES: [&str; 19] = [
    "F3",
    "F4",
    "F5",
    "F6",
    "F7",
    "F8",
    "F9",
    "F10",
    "F11",
    "full-ablations",
    "before-after",
    "A1",
    "A2",
    "A3",
    "A4",
    "C1",
    "C2",
    "C3",
    "C4",
];

/// Everything that is wrong with the report in `folder`, a line each. That the page draws is the
/// browser test's.
pub(super) fn faults(folder: &Path) -> Vec<String> {
    let page = match fs::read_to_string(folder.join("report.html")) {
        Ok(page) => page,
        Err(error) => return vec![format!("report.html: {error}")],
    };
    let mut faults = Vec::new();
    if page.len() > LARGEST {
        faults.push(format!("report.html has {} bytes, more than {LARGEST}", page.len()));
    }
    let drawn = figures_data(&page).unwrap_or_else(|message| {
        faults.push(format!("report.html: {message}"));
        Vec::new()
    });
    for figure in FIGURES {
        match page.matches(&format!(" id=\"{figure}\"")).count() {
            0 => faults.push(format!("report.html has no figure {figure}")),
            1 if !drawn.iter().any(|id| id == figure) => {
                faults.push(format!("report.html has no numbers for figure {figure}"));
            }
            1 => {}
            n => faults.push(format!("report.html has the id {figure} {n} times")),
        }
        for (kind, lines) in [("svg", 1), ("csv", 2)] {
            let path = format!("figures/{figure}.{kind}");
            match fs::read_to_string(folder.join(&path)) {
                Ok(text) if text.lines().count() >= lines => {}
                Ok(_) => faults.push(format!("{path}: it is empty")),
                Err(error) => faults.push(format!("{path}: {error}")),
            }
        }
    }
    faults
}

/// The ids of the figures whose numbers are in the page.
fn figures_data(page: &str) -> Result<Vec<String>, String> {
    let after =
        page.split_once(" id=\"figures\">").map(|(_, after)| after).ok_or("no data of figures")?;
    let text = after
        .split_once("</script>")
        .map(|(text, _)| text)
        .ok_or("data of figures without an end")?;
    let data = super::json(text).map_err(|error| format!("data of figures: {error}"))?;
    Ok(super::list(&data)
        .iter()
        .filter_map(|figure| Some(figure["id"].as_str()?.to_string()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "<!doctype html>\n<html><head><meta charset=\"utf-8\"></head><body>";

    /// A folder with a whole report, and its page.
    fn report(name: &str) -> (std::path::PathBuf, String) {
        let folder = std::env::temp_dir().join(format!("xtask-page-{name}-{}", std::process::id()));
        fs::create_dir_all(folder.join("figures")).unwrap();
        let mut page = HEAD.to_string();
        for figure in FIGURES {
            page += &format!("<figure id=\"{figure}\"></figure>\n");
            fs::write(folder.join(format!("figures/{figure}.svg")), "<svg><path d=\"\"/></svg>")
                .unwrap();
            fs::write(folder.join(format!("figures/{figure}.csv")), "x,y\n1,2\n").unwrap();
        }
        let data: Vec<String> =
            FIGURES.iter().map(|figure| format!("{{\"id\":\"{figure}\"}}")).collect();
        let data = data.join(",");
        page += &format!(
            "<script type=\"application/json\" id=\"figures\">[{data}]</script><script>1 < 2</script>"
        );
        (folder, page + "</body></html>\n")
    }

    fn faults_of(folder: &Path, page: &str) -> Vec<String> {
        fs::write(folder.join("report.html"), page).unwrap();
        faults(folder)
    }

    #[test]
    fn faults_are_found() {
        let (folder, page) = report("faults");
        assert_eq!(faults_of(&folder, &page), Vec::<String>::new());
        let faults = |from: &str, to: &str| faults_of(&folder, &page.replace(from, to)).join("\n");
        assert_eq!(faults("<figure id=\"F7\">", "<figure>"), "report.html has no figure F7");
        assert_eq!(faults("{\"id\":\"C2\"}", "1"), "report.html has no numbers for figure C2");
        let twice = "report.html has the id F3 2 times\nreport.html has no figure A1";
        assert_eq!(faults("<figure id=\"A1\">", "<figure id=\"F3\">"), twice);
        assert!(faults("{\"id\":\"C2\"}", "{").contains("data of figures: not JSON"));
        assert!(faults(" id=\"figures\"", "").contains("no data of figures"));
        assert!(faults("1 < 2", &"x".repeat(LARGEST)).contains("bytes, more than 12000000"));
        assert!(faults_of(&folder, "").contains(&"report.html has no figure F3".to_string()));
        fs::write(folder.join("figures/F9.svg"), "").unwrap();
        fs::remove_file(folder.join("figures/F9.csv")).unwrap();
        let found = faults_of(&folder, &page);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], "figures/F9.svg: it is empty");
        fs::remove_dir_all(folder).unwrap();
    }
}
